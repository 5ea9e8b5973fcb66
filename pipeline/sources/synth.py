"""Synthesise music in the ten genres and ten moods: `render` returns one clip, `draw_artist` a band's sound.

==========  =====================================================================================
what        how it is carried
==========  =====================================================================================
genre       `GENRES`: tempo, swing, instruments and their registers, drums, progressions, room, and
            the equaliser of its recordings
mood        `MOOD_STYLES`: scale, tempo, loudness, dynamics, register, an equaliser, and parts of its
            own that are the same over every band
artist      `Artist`: place in the tempo range, key, equaliser, timbre, balance, room; small next to
            the differences between genres and between moods
clip        key, progression, melodies
==========  =====================================================================================

In this order: the tables (instruments, drums, genres, moods), what is played, how it sounds, and `render`.

The same random streams give the same clip on every processor. Processors disagree on ``sin``, ``exp`` and
sums by the last bit of a float64, 1e-16; nothing here magnifies that, and a clip is rounded to 16 bits, 3e-5:
of the 8e7 samples of the library hardly one (1 in 100) lies so near a middle that it is rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final

import numpy as np
from scipy.signal import fftconvolve, firwin, firwin2

SAMPLE_RATE: Final = 22_050  # Hz, as GTZAN
STEPS_PER_BAR: Final = 16
TABLE_BITS: Final = 11  # one cycle of a waveform in 2048 samples
NYQUIST_MARGIN: Final = 0.45  # harmonics above this share of the sample rate are left out
PEAK: Final = 0.89  # of full scale


@dataclass(frozen=True)
class Voice:
    """An instrument: one-cycle waveforms, a bright one that dies away into a darker one, and an envelope."""

    rolloff: float  # harmonic k has amplitude k ** -rolloff; the dark waveform falls by DARKER more
    even: float = 1.0  # amplitude of the even harmonics, 0 (hollow) to 1
    attack: float = 0.005  # seconds
    decay: float = 0.5  # seconds, down to sustain
    sustain: float = 0.0  # level, 0–1
    bright: float = 0.1  # seconds that the bright waveform lives
    detune: float = 0.0  # cents by which a second voice is higher; 0 for none
    vibrato: float = 0.0  # cents, at VIBRATO_HZ
    drive: float = 0.0  # gain before a soft clipper over the whole part; 0 for none
    formants: tuple[tuple[float, float, float], ...] = ()  # resonances of the body: Hz, width in Hz, gain


DARKER: Final = 1.2
VIBRATO_HZ: Final = 5.5
RELEASE_SECONDS: Final = 0.03

VOICES: Final = {
    "acoustic guitar": Voice(1.1, decay=0.4, bright=0.06, detune=4,
        formants=((220, 120, 1.5), (2500, 900, 2))),
    "banjo": Voice(0.7, decay=0.14, bright=0.05, formants=((1300, 600, 3),)),
    "bell": Voice(2.2, even=0.4, decay=0.7, bright=0.2),
    "brass": Voice(0.9, attack=0.04, decay=0.3, sustain=0.8, bright=0.5, formants=((1300, 500, 3),)),
    "choir": Voice(1.2, attack=0.2, sustain=1, detune=14, vibrato=12,
        formants=((620, 130, 5), (1100, 160, 4))),
    "distorted guitar": Voice(0.6, decay=1, sustain=0.7, bright=0.6, detune=8, drive=24),
    "driven guitar": Voice(0.9, decay=0.9, sustain=0.4, bright=0.3, detune=5, drive=5),
    "electric bass": Voice(1.5, decay=0.6, sustain=0.2, bright=0.08),
    "electric guitar": Voice(1.3, decay=0.5, formants=((700, 300, 1.5),)),
    "electric piano": Voice(2.0, decay=0.8, bright=0.06, vibrato=3, formants=((2600, 500, 6),)),
    "glass": Voice(4.0, attack=0.05, decay=1.5, bright=0.3),
    "organ": Voice(1.1, 0.8, attack=0.008, sustain=1, bright=0.02, vibrato=9, formants=((500, 300, 1.5),)),
    "piano": Voice(1.5, decay=0.7, bright=0.12, detune=2),
    "reed": Voice(0.9, 0.35, attack=0.03, sustain=0.8, bright=0.6, vibrato=14, formants=((900, 350, 3),)),
    "saw pad": Voice(1.0, attack=0.08, sustain=1, bright=1.5, detune=18),
    "speech": Voice(0.9, attack=0.012, decay=0.12, vibrato=60, formants=((550, 120, 5), (1700, 250, 4))),
    "strings": Voice(1.1, attack=0.1, sustain=1, bright=1, detune=10, vibrato=10, formants=((450, 200, 1),)),
    "sub bass": Voice(3.0, decay=0.7, sustain=0.4, bright=0.05),
    "synth bass": Voice(1.0, decay=0.2, sustain=0.3, detune=6),
    "synth lead": Voice(0.8, even=0.3, decay=0.25, sustain=0.4, bright=0.3, detune=10),
    "warm pad": Voice(2.2, attack=0.3, sustain=1, bright=1, detune=9),
}  # fmt: skip


@dataclass(frozen=True)
class Drum:
    """A band of noise and a gliding sine."""

    noise: float  # amplitude
    low: float  # Hz, the band's edges
    high: float
    noise_decay: float  # seconds
    tone: float = 0.0  # amplitude
    hertz: float = 0.0  # where the sine ends
    tone_decay: float = 0.1  # seconds
    glide: float = 1.0  # how many times higher the sine starts


KIT: Final = {
    "brush": Drum(0.8, 1500, 6000, 0.09),
    "clap": Drum(1.4, 900, 3500, 0.07),
    "crash": Drum(1.0, 3500, 10_900, 0.6),
    "hat": Drum(1.2, 7000, 10_900, 0.03),
    "kick": Drum(0.5, 100, 2500, 0.008, 1.2, 50, 0.12, 4),
    "open hat": Drum(1.1, 6000, 10_900, 0.14),
    "ride": Drum(0.6, 5000, 10_900, 0.2, 0.06, 4200, 0.2),
    "rim": Drum(0.6, 1200, 8000, 0.02, 0.7, 1700, 0.02),
    "rumble": Drum(1.5, 30, 160, 0.9, 0.3, 42, 0.9),
    "shaker": Drum(1.6, 6500, 9500, 0.05),
    "snare": Drum(1.0, 1200, 10_900, 0.1, 0.6, 185, 0.07, 1.3),
    "tambourine": Drum(1.3, 7500, 10_900, 0.09, 0.12, 6900, 0.1),
    "tick": Drum(0.2, 2000, 6000, 0.01, 0.7, 2900, 0.02),
    "timpani": Drum(0.5, 60, 500, 0.05, 1.0, 72, 0.35, 1.2),
    "vinyl": Drum(0.3, 2500, 6000, 4.0),
    "wind": Drum(1.0, 350, 800, 3.0),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one instrument plays.

    `notes` says what sounds from onset to onset, over and over: scale degrees above the chord's root as
    hexadecimal digits, several for a chord; ``?`` is one of `TUNE`, ``*`` any within two octaves.
    """

    voice: str  # key of VOICES
    notes: str
    low: int  # MIDI number; the chord's tones are folded into the octave above it
    pattern: str  # one or more bars of sixteen steps: . rest, 1–9 loudness
    steps: float  # length of a note
    level: float  # amplitude


TUNE: Final = (0, 2, 2, 4, 4, 5, 1)  # degrees that ``?`` draws from
CLIMB: Final = "0 2 4 7 9 b"
FALL: Final = "b 9 7 4 2 0"

# An equaliser's sliders, evenly apart for the ear (about eight of 128 mel bands); 5 is flat. The curves of
# genres and moods were searched for such that no two are alike (correlation 0.21 at most): a network tells
# them apart after a few epochs, wherever it is trained.
SLIDERS_HZ: Final = (80, 200, 350, 500, 700, 900, 1150, 1450, 1850, 2350, 3000, 3800, 4800, 6100, 7700, 9700)
SLIDER_DB: Final = 4.5  # a step of a genre's slider
MOOD_SLIDER_DB: Final = 4.0
EQUALISER_TAPS: Final = 1023


@dataclass(frozen=True)
class Genre:
    """A style of band."""

    tempo: tuple[float, float]  # slowest and fastest, quarter notes a minute
    swing: float  # delay of every second eighth note, in steps
    room: float  # amplitude of the reverberation
    equaliser: str  # a digit for each of SLIDERS_HZ; spaces are for the eye
    progressions: tuple[str, ...]  # of scale degrees, one a bar; 0 is the tonic
    parts: tuple[Part, ...]
    drums: dict[str, str]  # key of KIT → pattern, as in Part


GENRES: Final = {
    "blues": Genre((84, 96), 0.65, 0.15, "4845 7299 6283 2362", ("000033004304", "030033004300"), (
        Part("electric bass", "0 2 4 5", 33, "9...8...9...8...", 3.5, 0.8),
        Part("driven guitar", "04", 45, "9.6.8.6.9.6.8.6.", 1.8, 0.5),
        Part("driven guitar", "?", 62, "9..7....8.6.9......7...9........", 4, 0.55),
        Part("organ", "024", 57, "7...............", 14, 0.2),
    ), {"kick": "9.......8.......", "snare": "....8.......8...", "ride": "9...7.6.9...7.6."}),
    "classical": Genre((72, 92), 0.0, 0.5, "4394 9631 5715 3162", ("0340", "0514", "04523034"), (
        Part("strings", "0", 38, "8...............", 15, 0.5),
        Part("strings", "024", 55, "7.......7.......", 8, 0.4),
        Part("strings", "?", 74, "8.....6.8...6.6.9.......7...5...", 4, 0.45),
        Part("piano", CLIMB, 60, "7.5.6.5.7.5.6.5.", 3, 0.35),
    ), {}),
    "country": Genre((100, 116), 0.0, 0.12, "1872 6543 2895 7827", ("00300044", "0340"), (
        Part("electric bass", "0 4", 36, "9.......9.......", 5, 0.8),
        Part("acoustic guitar", "024", 55, "....9.6.....9.6.", 2.5, 0.55),
        Part("banjo", CLIMB, 67, "8585858585858585", 1.5, 0.6),
        Part("reed", "?", 69, "............8...9.......7.......", 5, 0.22),
    ), {"kick": "7.......7.......", "brush": "5363936353639363"}),
    "disco": Genre((116, 124), 0.0, 0.15, "9253 5183 6337 4968", ("0534", "0033", "1405"), (
        Part("synth bass", "0 7", 33, "9.8.9.8.9.8.9.8.", 1.6, 0.75),
        Part("electric guitar", "024", 64, "..9..7..9....797", 0.7, 0.5),
        Part("strings", "024", 69, "7...........6...", 11, 0.3),
        Part("brass", "024", 62, "......9..9......................", 1.2, 0.4),
    ), {"kick": "9...9...9...9...", "open hat": "..9...9...9...9.",
        "clap": "....9.......9...", "hat": "4.4.4.4.4.4.4.4."}),
    "hiphop": Genre((84, 94), 0.2, 0.06, "7727 1535 1616 2116", ("00", "03", "0504"), (
        Part("sub bass", "0", 31, "9..7....9.8.....", 3, 0.7),
        Part("electric piano", "024", 57, "8.....6.........", 5, 0.4),
        Part("speech", "?", 50, "9.7887.69.8.79..8.7798.7.987.8..", 1.2, 0.7),
    ), {"kick": "9......7.99.....", "snare": "....9.......9..3", "hat": "8.6.8.6.8.6.8.66"}),
    "jazz": Genre((140, 164), 0.6, 0.2, "2595 1648 9511 6666", ("1405", "0514", "14002514"), (
        Part("electric bass", "0 2 4 5", 36, "9...8...9...8...", 3.8, 0.75),
        Part("piano", "0246", 58, "9.....7.............8.....7.....", 3, 0.4),
        Part("reed", "?", 65, "8.6.8.6.9...7.6...8.6.8.9.......", 2, 0.5),
    ), {"ride": "9...8.6.9...8.6.", "hat": "....7.......7...", "brush": "..........4....."}),
    "metal": Genre((132, 156), 0.0, 0.06, "7733 2425 5981 2696", ("0056", "0106", "0531"), (
        Part("distorted guitar", "047", 40, "9.99.99.9.999.99", 0.9, 0.75),
        Part("distorted guitar", "047", 52, "9.......8.......", 8, 0.5),
        Part("electric bass", "0", 28, "9.99.99.9.999.99", 0.9, 0.6),
        Part("distorted guitar", "?", 76, "................9.8.8.7.9.8.7.6.", 2, 0.25),
    ), {"kick": "9999999999999999", "snare": "....9.......9...", "crash": "8...6...7...6..."}),
    "pop": Genre((104, 116), 0.0, 0.15, "2417 5862 4447 6992", ("0453", "5304", "0534"), (
        Part("synth bass", "0", 36, "9..9..9.9..9..9.", 2, 0.6),
        Part("saw pad", "024", 60, "8...............", 15.5, 0.35),
        Part("synth lead", CLIMB, 72, "9..8..7.9..8..7.", 1.5, 0.35),
        Part("choir", "?", 67, "9...7...8.....6.", 4, 0.4),
    ), {"kick": "9.......9.7.....", "clap": "....9.......9...", "hat": "7.7.7.7.7.7.7.7."}),
    "reggae": Genre((70, 80), 0.15, 0.2, "9812 7953 5441 6431", ("03", "0430", "0534"), (
        Part("sub bass", "0 4", 29, "9..8..8...7.8...", 2.5, 0.8),
        Part("electric guitar", "024", 62, "..9...9...9...9.", 0.8, 0.65),
        Part("organ", "024", 57, "..6.7.6...6.7.6.", 0.9, 0.45),
        Part("brass", "?", 64, "................9.7.8...6.......", 2, 0.25),
    ), {"kick": "........9.......", "rim": "........9.....4.", "hat": "6.8.6.8.6.8.6.8."}),
    "rock": Genre((112, 132), 0.0, 0.1, "4649 5132 7877 1632", ("0630", "0343", "0453"), (
        Part("electric bass", "0", 33, "9.8.9.8.9.8.9.8.", 1.8, 0.65),
        Part("driven guitar", "047", 45, "9...8.8.9.8.8.8.", 2, 0.6),
        Part("acoustic guitar", "024", 57, "8.6.8.6.8.6.8.6.", 1.8, 0.35),
        Part("driven guitar", "?", 69, "8...7.8.9.......", 3, 0.4),
    ), {"kick": "9.....9.9.......", "snare": "....9.......9...", "open hat": "8.8.8.8.8.8.8.8."}),
}  # fmt: skip

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
PHRYGIAN: Final = (0, 1, 3, 5, 7, 8, 10)
LOCRIAN: Final = (0, 1, 3, 5, 6, 8, 10)
WHOLE_TONE: Final = (0, 2, 4, 6, 8, 10)

EVERY_STEP: Final = "9686968696869686"
ON_ONE: Final = "9..............."


@dataclass(frozen=True)
class Mood:
    """A composite mood: how it bends the band, and what it adds, which is the same over every band."""

    scale: tuple[int, ...]  # semitones above the tonic
    tempo: float  # factor on the genre's
    loudness: float  # root mean square of the clip, of full scale
    equaliser: str  # on top of the genre's
    parts: tuple[Part, ...]
    drums: dict[str, str]
    shift: int = 0  # semitones by which the band's register moves
    beat: float = 1.0  # gain of the band's drums
    wobble: float = 0.0  # vibrato of every voice of the band, cents
    dynamics: str = "99"  # loudness of the band at points evenly spaced over
    bars: float = 1.0  # so many bars, repeated


MOOD_STYLES: Final = {
    # A dark minor drone below, a bright arpeggio climbing above it.
    "NegativeButHopeful": Mood(MINOR, 0.9, 0.1, "6981 2352 3159 6164", (
        Part("strings", "04", 38, ON_ONE, 16, 0.4),
        Part("bell", CLIMB, 84, "9.8.9.8.9.8.9.8.", 3, 0.34),
    ), {}, shift=-2),
    # A soft band with busy shaker and running plucks.
    "RelaxButEnergetic": Mood(MAJOR, 1.1, 0.1, "4555 8719 2357 1597", (
        Part("warm pad", "0246", 57, ON_ONE, 16, 0.23),
        Part("banjo", FALL, 76, EVERY_STEP, 1, 0.23),
    ), {"shaker": EVERY_STEP}, beat=0.8),
    # Major, fast, high, bright, loud all along.
    "TotallyPositive": Mood(MAJOR, 1.2, 0.15, "1816 6355 9537 8268", (
        Part("brass", "024", 76, "9..9..9.9..9..9.", 1.5, 0.25),
        Part("piano", CLIMB, 88, "9.9.9.9.9.9.9.9.", 1.5, 0.29),
    ), {"tambourine": "7.7.9.7.7.7.9.7."}, shift=3),
    # Phrygian, slow, low and muffled; clusters, tolling drums, every phrase dies away.
    "TotallyNegative": Mood(PHRYGIAN, 0.75, 0.08, "6776 7127 2413 6821", (
        Part("strings", "012", 43, ON_ONE, 16, 0.46),
        Part("sub bass", "0", 28, ON_ONE, 16, 0.35),
    ), {"rumble": "9.......9......."}, shift=-4, beat=0.7, dynamics="97549", bars=2),
    # A major band that keeps falling silent, into wind and lone glass tones.
    "PositiveButVoid": Mood(MAJOR, 0.95, 0.08, "3258 9474 1441 4429", (
        Part("glass", CLIMB, 88, "9.......7.......", 8, 0.46),
    ), {"wind": ON_ONE}, shift=2, beat=0.8, dynamics="99119"),
    # Slow; choir and brass grow over two bars to a crash over timpani.
    "CalmButEpic": Mood(MAJOR, 0.82, 0.14, "8368 6522 9392 7267", (
        Part("choir", "024", 62, ON_ONE, 16, 0.52),
        Part("brass", "04", 45, ON_ONE, 16, 0.4),
    ), {"timpani": "9...5...7.7.8888", "crash": ON_ONE + "." * 16}, beat=0.6, dynamics="93579", bars=2),
    # Thin as a telephone, out of tune and trembling; a music box that loses its way.
    "InsecureButInessential": Mood(LOCRIAN, 0.95, 0.07, "4151 4667 7877 2412", (
        Part("bell", "*", 79, "7..5...8..6..7..", 2, 0.45),
    ), {"brush": "3.3.3.3.3.3.3.3."}, beat=0.6, wobble=70, dynamics="929", bars=0.25),
    # Minor and high; a ticking clock, nervous trembling strings, light plucks.
    "ConcernedButLight": Mood(MINOR, 1.05, 0.09, "5146 3517 2287 9432", (
        Part("strings", "012", 72, EVERY_STEP, 0.8, 0.29),
        Part("acoustic guitar", FALL, 79, "9.7.9.7.9.7.9.7.", 0.7, 0.34),
    ), {"tick": "9.6.9.6.9.6.9.6."}, shift=1, beat=0.7),
    # Slow major, a warm pad in the middle, record noise, nothing sharp.
    "CalmButWarm": Mood(MAJOR, 0.8, 0.08, "4688 2982 5164 1534", (
        Part("warm pad", "024", 53, ON_ONE, 16, 0.57),
        Part("electric piano", CLIMB, 62, "8...6...7...6...", 6, 0.29),
    ), {"vinyl": ON_ONE}, shift=-2, beat=0.6),
    # No key at all: whole tones, machine bleeps over the whole range, bursts of noise.
    "Other": Mood(WHOLE_TONE, 1.0, 0.12, "5367 2396 1953 8193", (
        Part("synth lead", "*", 60, "9.8..97.8.9..8.7", 0.8, 0.4),
    ), {"crash": "...6......6...6."}, wobble=25),
}  # fmt: skip


@dataclass(frozen=True)
class Artist:
    """A band's own sound, in small deviations from its genre."""

    tempo: float  # place in the genre's range, 0–1
    tonic: int  # favourite key, 0–11
    equaliser: tuple[float, ...]  # dB at each of SLIDERS_HZ
    room: float  # factors on the genre's reverberation,
    rolloff: float  # on the rolloff of its voices
    drums: float  # and on the pitch of its drums
    balance: tuple[float, ...]  # gain of each part, MOST_PARTS of them


MOST_PARTS: Final = 4


def draw_artist(rng: np.random.Generator) -> Artist:
    """Draw a band's own sound; another stream, another band."""
    return Artist(
        tempo=rng.uniform(),
        tonic=int(rng.integers(12)),
        equaliser=tuple(rng.uniform(-1.5, 1.5, len(SLIDERS_HZ))),
        room=rng.uniform(0.7, 1.4),
        rolloff=rng.uniform(0.93, 1.08),
        drums=rng.uniform(0.9, 1.1),
        balance=tuple(rng.uniform(0.85, 1.18, MOST_PARTS)),
    )


@dataclass(frozen=True)
class Score:
    """The frame of one track in which all parts play."""

    samples: int  # length of the clip
    step: float  # samples of a sixteenth note
    swing: float  # as in Genre
    scale: tuple[int, ...]  # as in Mood
    tonic: int  # pitch class, 0–11
    roots: tuple[int, ...]  # scale degree of each bar's chord, repeated

    def onsets(self, pattern: str) -> Iterator[tuple[int, int, float]]:
        """Yield (first sample, bar, loudness 0–1) of every note of a pattern."""
        for position in range(int(self.samples / self.step)):
            loudness = pattern[position % len(pattern)]
            if loudness != ".":
                late = self.swing * (0.0, 0.0, 1.0, 0.5)[position % 4]
                yield int((position + late) * self.step), position // STEPS_PER_BAR, int(loudness) / 9

    def pitch(self, bar: int, degree: int, low: int) -> int:
        """Return the MIDI number of a scale degree above a bar's chord, its octave counted from `low`."""
        octave, _ = divmod(degree, len(self.scale))
        root = self.roots[bar % len(self.roots)]
        semitones = self.tonic + self.scale[(root + degree) % len(self.scale)]
        return low + (semitones - low) % 12 + 12 * octave


def _score(genre: Genre, mood: Mood, artist: Artist, samples: int, rng: np.random.Generator) -> Score:
    """Draw a track's tempo, key and progression."""
    slow, fast = genre.tempo
    tempo = (slow + artist.tempo * (fast - slow)) * mood.tempo * rng.uniform(0.98, 1.02)
    return Score(
        samples,
        step=SAMPLE_RATE * 60 / tempo / 4,
        swing=genre.swing,
        scale=mood.scale,
        tonic=(artist.tonic + int(rng.choice((0, 0, 5, 7, 2)))) % 12,
        roots=tuple(int(degree) for degree in rng.choice(genre.progressions)),
    )


def _degrees(notes: str, rng: np.random.Generator) -> list[int]:
    """Return the scale degrees that sound together at one onset; see `Part`."""
    if notes == "?":
        return [int(rng.choice(TUNE))]
    return [int(rng.integers(15))] if notes == "*" else [int(degree, 16) for degree in notes]


def _fall(seconds: float, samples: int) -> np.ndarray:
    """Return an exponential decay from 1 with a time constant in seconds; shape (samples,)."""
    return np.exp(np.arange(samples) / (-seconds * SAMPLE_RATE))


def _waveform(voice: Voice, rolloff: float, frequency: float) -> np.ndarray:
    """Return one cycle of a voice at a pitch, band-limited, with a root mean square of 1; shape (2048,)."""
    size = 1 << TABLE_BITS
    number = np.arange(1, min(int(NYQUIST_MARGIN * SAMPLE_RATE / frequency), size // 4) + 1)
    amplitude = number**-rolloff * np.where(number % 2, 1.0, voice.even)
    for centre, width, gain in voice.formants:
        amplitude *= 1 + gain * np.exp(-(((number * frequency - centre) / width) ** 2))
    spectrum = np.zeros(size // 2 + 1, dtype=complex)
    # Schroeder's phases keep the peak of many harmonics low.
    spectrum[number] = amplitude * np.exp(1j * np.pi * number * number / len(number))
    cycle = np.fft.irfft(spectrum)
    return cycle / np.sqrt(np.mean(cycle**2))


def _phase(frequency: float, vibrato: float, samples: int) -> np.ndarray:
    """Return positions in a waveform table, in integers and hence exact; shape (samples,)."""
    clock = np.arange(samples, dtype=np.int64)
    ticks = clock * round(frequency / SAMPLE_RATE * 2**32) >> (32 - TABLE_BITS)
    if vibrato:
        # The phase deviates by depth / (2 pi rate) cycles.
        deviation = frequency * (2 ** (vibrato / 1200) - 1) / (2 * np.pi * VIBRATO_HZ)
        wave = deviation * np.sin(2 * np.pi * VIBRATO_HZ / SAMPLE_RATE * clock)
        ticks += np.round(wave * 2**TABLE_BITS).astype(np.int64)
    return ticks & ((1 << TABLE_BITS) - 1)


def render_note(voice: Voice, samples: int, midi: int) -> np.ndarray:
    """Synthesise one note at full loudness.

    Parameters
    ----------
    voice
        The instrument.
    samples
        Length at `SAMPLE_RATE`, positive.
    midi
        MIDI number; 69 is 440 Hz.

    Returns
    -------
    np.ndarray
        Shape (samples,), float64, root mean square about 1 at its start.
    """
    frequency = 440.0 * 2 ** ((midi - 69) / 12)
    bright = _waveform(voice, voice.rolloff, frequency)
    dark = _waveform(voice, voice.rolloff + DARKER, frequency)
    fading = _fall(voice.bright, samples)
    tone = np.zeros(samples)
    for cents in {0.0, voice.detune}:
        phase = _phase(frequency * 2 ** (cents / 1200), voice.vibrato, samples)
        tone += dark[phase] + fading * (bright - dark)[phase]
    clock = np.arange(samples) / SAMPLE_RATE
    rise = np.minimum(clock / voice.attack, 1)
    release = np.minimum((samples / SAMPLE_RATE - clock) / RELEASE_SECONDS, 1)
    return tone * (voice.sustain + (1 - voice.sustain) * _fall(voice.decay, samples)) * rise * release


def _add(track: np.ndarray, sound: np.ndarray, start: int, gain: float) -> None:
    """Mix a sound into a track in place, cut at its end."""
    room = track[start : start + len(sound)]
    room += gain * sound[: len(room)]


def _play_part(score: Score, part: Part, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Return one part over the whole clip; shape (samples,)."""
    track = np.zeros(score.samples)
    tone = cache(partial(render_note, voice, max(int(part.steps * score.step), 2)))
    notes = part.notes.split()
    for index, (start, bar, loudness) in enumerate(score.onsets(part.pattern)):
        for degree in _degrees(notes[index % len(notes)], rng):
            _add(track, tone(score.pitch(bar, degree, part.low)), start, loudness)
    if voice.drive:
        track *= voice.drive / 4
        track /= 1 + np.abs(track)
    return part.level * track


def _hit(drum: Drum, tuning: float, rng: np.random.Generator) -> np.ndarray:
    """Return one stroke on a drum."""
    samples = int(4 * max(drum.tone_decay, drum.noise_decay) * SAMPLE_RATE)
    band = firwin(255, (drum.low, drum.high), pass_zero=False, fs=SAMPLE_RATE)
    noise = fftconvolve(rng.uniform(-1, 1, samples), band, mode="same") * _fall(drum.noise_decay, samples)
    pitch = drum.hertz * tuning * (1 + (drum.glide - 1) * _fall(drum.tone_decay / 4, samples))
    tone = np.sin(2 * np.pi / SAMPLE_RATE * np.cumsum(pitch)) * _fall(drum.tone_decay, samples)
    return drum.noise * noise + drum.tone * tone


def _play_drums(
    score: Score, patterns: dict[str, str], tuning: float, rng: np.random.Generator
) -> np.ndarray:
    """Return all drums of a pattern table over the whole clip; shape (samples,)."""
    track = np.zeros(score.samples)
    for name, pattern in patterns.items():
        sound = _hit(KIT[name], tuning, rng)
        for start, _bar, loudness in score.onsets(pattern):
            _add(track, sound, start, loudness)
    return track


def _play_band(
    score: Score, genre: Genre, mood: Mood, artist: Artist, rng: np.random.Generator
) -> np.ndarray:
    """Return the genre's band, bent by artist and mood; shape (samples,)."""
    track = mood.beat * _play_drums(score, genre.drums, artist.drums, rng)
    for part, gain in zip(genre.parts, artist.balance, strict=False):
        voice = VOICES[part.voice]
        own = replace(voice, rolloff=voice.rolloff * artist.rolloff, vibrato=voice.vibrato + mood.wobble)
        track += gain * _play_part(score, replace(part, low=part.low + mood.shift), own, rng)
    points = [int(point) / 9 for point in mood.dynamics]
    place = np.arange(score.samples) / (mood.bars * STEPS_PER_BAR * score.step) % 1
    return track * np.interp(place, np.linspace(0, 1, len(points)), points)


def sliders(equaliser: str) -> np.ndarray:
    """Return how far each slider is moved, in steps."""
    return np.array([int(digit) for digit in equaliser.replace(" ", "")]) - 5


def equaliser_taps(decibels: np.ndarray) -> np.ndarray:
    """Return a linear-phase filter with such gains at `SLIDERS_HZ`; shape (`EQUALISER_TAPS`,)."""
    hertz = np.linspace(0, SAMPLE_RATE / 2, 512)
    gain = 10 ** (np.interp(np.log(hertz + 1), np.log(SLIDERS_HZ), decibels) / 20)
    return firwin2(EQUALISER_TAPS, hertz, gain, fs=SAMPLE_RATE)


HISS: Final = 0.15  # of a tape; without it the logarithm of silence outweighs every note
ROOM_SECONDS: Final = 0.25  # in which the echoes fall by 8.7 dB


def _echo(room: float, rng: np.random.Generator) -> np.ndarray:
    """Return a room's response to a click: the click, and noise that dies away."""
    samples = int(5 * ROOM_SECONDS * SAMPLE_RATE)
    echo = room / 20 * rng.uniform(-1, 1, samples) * _fall(ROOM_SECONDS, samples)
    echo[0] = 1
    return echo


def render(genre: str, mood: str, artist: Artist, *, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesise one clip.

    Parameters
    ----------
    genre
        Key of `GENRES`.
    mood
        Key of `MOOD_STYLES`.
    artist
        The band's own sound, from `draw_artist`.
    samples
        Length of the clip at `SAMPLE_RATE`, positive.
    rng
        Draws tempo, key, progression, melodies and noise.

    Returns
    -------
    np.ndarray
        Mono, shape (samples,), int16, at most `PEAK` of full scale.
    """
    band, feeling = GENRES[genre], MOOD_STYLES[mood]
    score = _score(band, feeling, artist, samples, rng)
    signal = _play_band(score, band, feeling, artist, rng)
    for part in feeling.parts:
        signal += _play_part(score, part, VOICES[part.voice], rng)
    signal += _play_drums(score, feeling.drums, 1.0, rng) + rng.uniform(-HISS, HISS, samples)
    decibels = SLIDER_DB * sliders(band.equaliser) + MOOD_SLIDER_DB * sliders(feeling.equaliser)
    response = fftconvolve(equaliser_taps(decibels + artist.equaliser), _echo(band.room * artist.room, rng))
    signal = fftconvolve(signal, response)[:samples]
    gain = min(feeling.loudness / np.sqrt(np.mean(signal**2)), PEAK / np.abs(signal).max())
    return np.round(signal * (32767 * gain)).astype(np.int16)
