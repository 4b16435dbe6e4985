"""Every analysis of one or two networks on one page."""
