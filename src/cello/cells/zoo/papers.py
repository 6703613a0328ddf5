"""The papers of the zoo's cells, each once."""

from __future__ import annotations

from cello.cells.paper import Paper

ELMAN_1990 = Paper(
    authors=("J. L. Elman",),
    year=1990,
    title="Finding structure in time",
    journal="Cognitive Science",
    volume="14",
    number="2",
    pages="179-211",
)
LE_2015 = Paper(
    authors=("Q. V. Le", "N. Jaitly", "G. E. Hinton"),
    year=2015,
    title="A simple way to initialize recurrent networks of rectified linear units",
    arxiv="1504.00941",
)
LI_2018 = Paper(
    authors=("S. Li", "W. Li", "C. Cook", "C. Zhu", "Y. Gao"),
    year=2018,
    title="Independently recurrent neural network (IndRNN): building a longer and deeper RNN",
    meeting="CVPR",
    arxiv="1803.04831",
)
WU_2016 = Paper(
    authors=("Y. Wu", "S. Zhang", "Y. Zhang", "Y. Bengio", "R. Salakhutdinov"),
    year=2016,
    title="On multiplicative integration with recurrent neural networks",
    meeting="NeurIPS",
    arxiv="1606.06630",
)
KUSUPATI_2018 = Paper(
    authors=("A. Kusupati", "M. Singh", "K. Bhatia", "A. Kumar", "P. Jain", "M. Varma"),
    year=2018,
    title="FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated recurrent neural network",
    meeting="NeurIPS",
    arxiv="1901.02358",
)
GERS_2000 = Paper(
    authors=("F. A. Gers", "J. Schmidhuber", "F. Cummins"),
    year=2000,
    title="Learning to forget: continual prediction with LSTM",
    journal="Neural Computation",
    volume="12",
    number="10",
    pages="2451-2471",
)
GERS_2000_PEEPHOLES = Paper(
    authors=("F. A. Gers", "J. Schmidhuber"),
    year=2000,
    title="Recurrent nets that time and count",
    pages="189-194",
    meeting="IJCNN",
)
GREFF_2017 = Paper(
    authors=("K. Greff", "R. K. Srivastava", "J. Koutník", "B. R. Steunebrink", "J. Schmidhuber"),
    year=2017,
    title="LSTM: a search space odyssey",
    journal="IEEE Transactions on Neural Networks and Learning Systems",
    volume="28",
    number="10",
    pages="2222-2232",
    arxiv="1503.04069",
)
HOCHREITER_1997 = Paper(
    authors=("S. Hochreiter", "J. Schmidhuber"),
    year=1997,
    title="Long short-term memory",
    journal="Neural Computation",
    volume="9",
    number="8",
    pages="1735-1780",
)
KRAUSE_2016 = Paper(
    authors=("B. Krause", "L. Lu", "I. Murray", "S. Renals"),
    year=2016,
    title="Multiplicative LSTM for sequence modelling",
    arxiv="1609.07959",
)
BECK_2024 = Paper(
    authors=(
        "M. Beck",
        "K. Pöppel",
        "M. Spanring",
        "A. Auer",
        "O. Prudnikova",
        "M. Kopp",
        "G. Klambauer",
        "J. Brandstetter",
        "S. Hochreiter",
    ),
    year=2024,
    title="xLSTM: extended long short-term memory",
    meeting="NeurIPS",
    arxiv="2405.04517",
)
LEE_2017 = Paper(
    authors=("K. Lee", "O. Levy", "L. Zettlemoyer"),
    year=2017,
    title="Recurrent additive networks",
    arxiv="1705.07393",
)
BRADBURY_2017 = Paper(
    authors=("J. Bradbury", "S. Merity", "C. Xiong", "R. Socher"),
    year=2017,
    title="Quasi-recurrent neural networks",
    meeting="ICLR",
    arxiv="1611.01576",
)
LEI_2018 = Paper(
    authors=("T. Lei", "Y. Zhang", "S. I. Wang", "H. Dai", "Y. Artzi"),
    year=2018,
    title="Simple recurrent units for highly parallelizable recurrence",
    meeting="EMNLP",
    arxiv="1709.02755",
)
FENG_2024 = Paper(
    authors=("L. Feng", "F. Tung", "M. O. Ahmed", "Y. Bengio", "H. Hajimirsadeghi"),
    year=2024,
    title="Were RNNs all we needed?",
    arxiv="2410.01201",
)
CHO_2014 = Paper(
    authors=("K. Cho", "B. van Merriënboer", "C. Gulcehre", "D. Bahdanau", "F. Bougares", "H. Schwenk", "Y. Bengio"),
    year=2014,
    title="Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    meeting="EMNLP",
    arxiv="1406.1078",
)
ZHOU_2016 = Paper(
    authors=("G.-B. Zhou", "J. Wu", "C.-L. Zhang", "Z.-H. Zhou"),
    year=2016,
    title="Minimal gated unit for recurrent neural networks",
    journal="International Journal of Automation and Computing",
    volume="13",
    number="3",
    pages="226-234",
    arxiv="1603.09420",
)
COLLINS_2017 = Paper(
    authors=("J. Collins", "J. Sohl-Dickstein", "D. Sussillo"),
    year=2017,
    title="Capacity and trainability in recurrent neural networks",
    meeting="ICLR",
    arxiv="1611.09913",
)
VAN_DER_WESTHUIZEN_2018 = Paper(
    authors=("J. van der Westhuizen", "J. Lasenby"),
    year=2018,
    title="The unreasonable effectiveness of the forget gate",
    arxiv="1804.04849",
)
RAVANELLI_2018 = Paper(
    authors=("M. Ravanelli", "P. Brakel", "M. Omologo", "Y. Bengio"),
    year=2018,
    title="Light gated recurrent units for speech recognition",
    journal="IEEE Transactions on Emerging Topics in Computational Intelligence",
    volume="2",
    number="2",
    pages="92-102",
    arxiv="1803.10225",
)
CHEN_2017 = Paper(
    authors=("M. Chen",),
    year=2017,
    title="MinimalRNN: toward more interpretable and trainable recurrent neural networks",
    arxiv="1711.06788",
)
JOZEFOWICZ_2015 = Paper(
    authors=("R. Jozefowicz", "W. Zaremba", "I. Sutskever"),
    year=2015,
    title="An empirical exploration of recurrent network architectures",
    pages="2342-2350",
    meeting="ICML",
)
LAURENT_2017 = Paper(
    authors=("T. Laurent", "J. von Brecht"),
    year=2017,
    title="A recurrent neural network without chaos",
    meeting="ICLR",
    arxiv="1612.06212",
)
ZHANG_2018 = Paper(
    authors=("B. Zhang", "D. Xiong", "J. Su", "Q. Lin", "H. Zhang"),
    year=2018,
    title="Simplifying neural machine translation with addition-subtraction twin-gated recurrent networks",
    meeting="EMNLP",
    arxiv="1810.12546",
)
RUSCH_2022 = Paper(
    authors=("T. K. Rusch", "S. Mishra", "N. B. Erichson", "M. W. Mahoney"),
    year=2022,
    title="Long expressive memory for sequence modeling",
    meeting="ICLR",
    arxiv="2110.04744",
)
TALLEC_2018 = Paper(
    authors=("C. Tallec", "Y. Ollivier"),
    year=2018,
    title="Can recurrent neural networks warp time?",
    meeting="ICLR",
    arxiv="1804.11188",
)
RUSCH_2021_CORNN = Paper(
    authors=("T. K. Rusch", "S. Mishra"),
    year=2021,
    title="Coupled oscillatory recurrent neural network (coRNN): an accurate and (gradient) stable architecture for "
    "learning long time dependencies",
    meeting="ICLR",
    arxiv="2010.00951",
)
RUSCH_2021_UNICORNN = Paper(
    authors=("T. K. Rusch", "S. Mishra"),
    year=2021,
    title="UnICORNN: a recurrent model for learning very long time dependencies",
    meeting="ICML",
    arxiv="2103.05487",
)
ORVIETO_2023 = Paper(
    authors=("A. Orvieto", "S. L. Smith", "A. Gu", "A. Fernando", "C. Gulcehre", "R. Pascanu", "S. De"),
    year=2023,
    title="Resurrecting recurrent neural networks for long sequences",
    meeting="ICML",
    arxiv="2303.06349",
)
CHANG_2019 = Paper(
    authors=("B. Chang", "M. Chen", "E. Haber", "E. H. Chi"),
    year=2019,
    title="AntisymmetricRNN: a dynamical system view on recurrent neural networks",
    meeting="ICLR",
    arxiv="1902.09689",
)
LEZCANO_2019 = Paper(
    authors=("M. Lezcano-Casado", "D. Martínez-Rubio"),
    year=2019,
    title="Cheap orthogonal constraints in neural networks: a simple parametrization of the orthogonal and unitary "
    "group",
    meeting="ICML",
    arxiv="1901.08428",
)
KOUTNIK_2014 = Paper(
    authors=("J. Koutník", "K. Greff", "F. Gomez", "J. Schmidhuber"),
    year=2014,
    title="A clockwork RNN",
    meeting="ICML",
    arxiv="1402.3511",
)
VOELKER_2019 = Paper(
    authors=("A. R. Voelker", "I. Kajić", "C. Eliasmith"),
    year=2019,
    title="Legendre memory units: continuous-time representation in recurrent neural networks",
    meeting="NeurIPS",
)
ZILLY_2017 = Paper(
    authors=("J. G. Zilly", "R. K. Srivastava", "J. Koutník", "J. Schmidhuber"),
    year=2017,
    title="Recurrent highway networks",
    meeting="ICML",
    arxiv="1607.03474",
)
NEIL_2016 = Paper(
    authors=("D. Neil", "M. Pfeiffer", "S.-C. Liu"),
    year=2016,
    title="Phased LSTM: accelerating recurrent network training for long or event-based sequences",
    meeting="NeurIPS",
    arxiv="1610.09513",
)
HASANI_2021 = Paper(
    authors=("R. Hasani", "M. Lechner", "A. Amini", "D. Rus", "R. Grosu"),
    year=2021,
    title="Liquid time-constant networks",
    meeting="AAAI",
    arxiv="2006.04439",
)
HASANI_2022 = Paper(
    authors=(
        "R. Hasani",
        "M. Lechner",
        "A. Amini",
        "L. Liebenwein",
        "A. Ray",
        "M. Tschaikowski",
        "G. Teschl",
        "D. Rus",
    ),
    year=2022,
    title="Closed-form continuous-time neural networks",
    journal="Nature Machine Intelligence",
    volume="4",
    pages="992-1003",
    arxiv="2106.13898",
)
MONIZ_2017 = Paper(
    authors=("J. R. A. Moniz", "D. Krueger"),
    year=2017,
    title="Nested LSTMs",
    meeting="ACML",
    arxiv="1801.10308",
)
PENG_2023 = Paper(
    authors=("B. Peng", "E. Alcaide", "Q. Anthony"),
    year=2023,
    title="RWKV: reinventing RNNs for the transformer era",
    meeting="EMNLP Findings",
    arxiv="2305.13048",
)
BELLEC_2018 = Paper(
    authors=("G. Bellec", "D. Salaj", "A. Subramoney", "R. Legenstein", "W. Maass"),
    year=2018,
    title="Long short-term memory and learning-to-learn in networks of spiking neurons",
    meeting="NeurIPS",
    arxiv="1803.09574",
)
NEFTCI_2019 = Paper(
    authors=("E. O. Neftci", "H. Mostafa", "F. Zenke"),
    year=2019,
    title="Surrogate gradient learning in spiking neural networks",
    journal="IEEE Signal Processing Magazine",
    volume="36",
    number="6",
    pages="51-63",
)
BA_2016 = Paper(
    authors=("J. L. Ba", "J. R. Kiros", "G. E. Hinton"),
    year=2016,
    title="Layer normalization",
    arxiv="1607.06450",
)
SHEN_2019 = Paper(
    authors=("Y. Shen", "S. Tan", "A. Sordoni", "A. Courville"),
    year=2019,
    title="Ordered neurons: integrating tree structures into recurrent neural networks",
    meeting="ICLR",
    arxiv="1810.09536",
)
SAK_2014 = Paper(
    authors=("H. Sak", "A. Senior", "F. Beaufays"),
    year=2014,
    title="Long short-term memory recurrent neural network architectures for large scale acoustic modeling",
    meeting="Interspeech",
    pages="338-342",
)
MELIS_2020 = Paper(
    authors=("G. Melis", "T. Kočiský", "P. Blunsom"),
    year=2020,
    title="Mogrifier LSTM",
    meeting="ICLR",
    arxiv="1909.01792",
)
GAO_2018 = Paper(
    authors=("F. Gao", "L. Wu", "L. Zhao", "T. Qin", "X. Cheng", "T.-Y. Liu"),
    year=2018,
    title="Efficient sequence learning with group recurrent networks",
    meeting="NAACL-HLT",
    pages="799-808",
)
CHENG_2016 = Paper(
    authors=("J. Cheng", "L. Dong", "M. Lapata"),
    year=2016,
    title="Long short-term memory-networks for machine reading",
    meeting="EMNLP",
    arxiv="1601.06733",
)
CHE_2018 = Paper(
    authors=("Z. Che", "S. Purushotham", "K. Cho", "D. Sontag", "Y. Liu"),
    year=2018,
    title="Recurrent neural networks for multivariate time series with missing values",
    journal="Scientific Reports",
    volume="8",
    pages="6085",
)
BAYTAS_2017 = Paper(
    authors=("I. M. Baytas", "C. Xiao", "X. Zhang", "F. Wang", "A. K. Jain", "J. Zhou"),
    year=2017,
    title="Patient subtyping via time-aware LSTM networks",
    meeting="KDD",
    pages="65-74",
)
KATHAROPOULOS_2020 = Paper(
    authors=("A. Katharopoulos", "A. Vyas", "N. Pappas", "F. Fleuret"),
    year=2020,
    title="Transformers are RNNs: fast autoregressive transformers with linear attention",
    meeting="ICML",
    arxiv="2006.16236",
)
SUN_2023 = Paper(
    authors=("Y. Sun", "L. Dong", "S. Huang", "S. Ma", "Y. Xia", "J. Xue", "J. Wang", "F. Wei"),
    year=2023,
    title="Retentive network: a successor to transformer for large language models",
    arxiv="2307.08621",
)
SCHLAG_2021 = Paper(
    authors=("I. Schlag", "K. Irie", "J. Schmidhuber"),
    year=2021,
    title="Linear transformers are secretly fast weight programmers",
    meeting="ICML",
    arxiv="2102.11174",
)
PENG_2024 = Paper(
    authors=("B. Peng", "D. Goldstein", "Q. Anthony"),
    year=2024,
    title="Eagle and Finch: RWKV with matrix-valued states and dynamic recurrence",
    arxiv="2404.05892",
)
YANG_2025 = Paper(
    authors=("S. Yang", "J. Kautz", "A. Hatamizadeh"),
    year=2025,
    title="Gated delta networks: improving Mamba2 with delta rule",
    meeting="ICLR",
    arxiv="2412.06464",
)
HA_2017 = Paper(
    authors=("D. Ha", "A. Dai", "Q. V. Le"),
    year=2017,
    title="HyperNetworks",
    meeting="ICLR",
    arxiv="1609.09106",
)
