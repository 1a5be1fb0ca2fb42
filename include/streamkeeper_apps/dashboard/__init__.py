"""The dashboard: pages of Streamlit about any declared stream."""
