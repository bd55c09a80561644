"""Dynamic convolutions on a GPU without asking it anything: choices stay where they are made."""
