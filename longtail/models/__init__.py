"""What scores a (text, label) pair: sources of evidence, and the model that combines them."""
