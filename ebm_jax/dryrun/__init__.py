"""What a run would be on devices that are not here: its programs, compiled ahead of time and read.

``programs`` traces what a config runs from shapes alone, ``topology`` describes the devices, ``inspection`` compiles one for
the other; ``hlo`` parses what the compiler prints and ``cost`` counts it; ``report`` puts it in words, ``search`` tries other
layouts.
"""
