"""Published models: named specs and the maps of their tensor names."""
