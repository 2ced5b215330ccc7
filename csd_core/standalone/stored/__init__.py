"""Galleries that lie in a store of somebody else's: how the gate sees them, and how a plan is carried out there."""
