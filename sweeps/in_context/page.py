def render(out):
    pass
