"""What every room uses: reading arrays, checks, protocols, optional libraries, types."""
