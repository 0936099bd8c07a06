"""The time loops of recurrent layers, forward and backward, without weight gradients."""
