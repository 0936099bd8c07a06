"""What `import bract` offers to a script or a notebook; `bract` itself names these functions and loads them late."""
