"""`python -m rdkit_vae` is `rdvae`."""

from rdkit_vae.cli import main

if __name__ == "__main__":
    main()
