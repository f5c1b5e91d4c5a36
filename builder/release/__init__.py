"""From bundle to what is handed over: signed, frozen, copied onto media, explained on paper."""
