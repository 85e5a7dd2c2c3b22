# libosprey: the modules as one shared library, its public headers, find_package(osprey) and pkg-config.
