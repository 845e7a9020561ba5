"""A shop with real traffic and planted faults, on which the whole of Perfcore can be watched."""
