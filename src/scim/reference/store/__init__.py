"""The folder of a reference: formats, reading and writing of its parts."""
