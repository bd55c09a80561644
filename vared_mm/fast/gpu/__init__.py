"""Dynamic convolutions on a GPU without asking it anything: choices stay where they are made.

Experimental: held to the equations in Triton's interpreter, but measured on no GPU yet.
"""
