# %% [markdown]
# # the_papers_claims
