"""What is done with a trained model: predict, evaluate, compare, export, and list what there is."""
