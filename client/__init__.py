"""What runs on a device: it trains on its own records, under terms its owner set."""
