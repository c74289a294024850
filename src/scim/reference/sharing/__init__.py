"""Archives of references, and the Hugging Face Hub."""
