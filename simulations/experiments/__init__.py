"""Plans that come with the package: each figure in the README names the one that made it."""
