"""The data sets that come with bract: a file each, which exports it as `DATASET`."""
