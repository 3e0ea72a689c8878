from .embedder import TextEmbedder as TextEmbedder
