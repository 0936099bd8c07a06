"""What `bract budget` answers."""
