"""What every room uses: reading arrays, checks, protocols, optional libraries, pictures, types.

The ground floor: nothing here imports from another room.
"""
