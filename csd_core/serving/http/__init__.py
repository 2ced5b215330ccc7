"""HTTP without the product: limits, addresses, bodies, errors and messages on the wire. Routes use it."""
