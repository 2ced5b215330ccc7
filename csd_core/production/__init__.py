"""What production searches: releases and the live gallery."""
