module stand-in-operator

go 1.24.0
