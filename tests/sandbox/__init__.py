"""The sandbox, against real child processes: good ones, dying ones, and some that an image took over."""
