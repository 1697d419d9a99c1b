"""Does the score change as the attribution says?"""
