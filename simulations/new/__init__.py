"""What `bract new` does: it looks at data and proposes a plan for them."""
