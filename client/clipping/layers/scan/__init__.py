"""The time loops of recurrent layers, forwards and back, without a weight gradient in them."""
