"""The page at `/`: sliders, chat, comparison, preference meter."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
