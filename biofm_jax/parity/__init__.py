"""Published families held to independent implementations, and the ledger of the figures."""
