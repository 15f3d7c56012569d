"""LLaVA with attention capture, no server: requests in, records out."""

import warnings

# tqdm, which transformers imports, says so in red in every notebook without ipywidgets; nothing here needs them.
warnings.filterwarnings("ignore", message="IProgress not found")
