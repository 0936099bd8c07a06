"""From devices' answers to the sum of a round: in the clear, or under masks."""
