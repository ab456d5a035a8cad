"""One report of all that a working daemon needs: each module looks at one thing and gives findings; ``examine`` orders them."""
