"""Procedural sound effects: 59 classes of clip, each made from physics and chance alone.

`CLASSES[name](rng, seconds)` returns one new clip of the class: float32 [T], mono, 16 kHz, mean zero, peak 0.5 to 0.95,
where T is `int(seconds * SAMPLE_RATE)`. Every parameter of the sound is drawn from `rng`, so another seed is another
clip and the same seed is the same clip. The order of the draws and of the arithmetic is a contract: a training set is
named by its seeds, and `tests/training/synthesis_reference.json` catches an accidental change.

Knows nothing of captions, mixtures, recordings or models.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, fftconvolve, sosfilt

Rng = np.random.Generator
Signal = npt.NDArray[np.floating]
Clip = npt.NDArray[np.float32]

SAMPLE_RATE = 16000  # Hz
NYQUIST = SAMPLE_RATE / 2  # Hz
TOP_CUTOFF = 7900  # Hz; the highest corner a filter may be asked for
TAU = 2 * np.pi

# ---------------------------------------------------------------------------------------------------------------- time


def sample_count(seconds: float) -> int:
    """Whole samples that fit into `seconds`."""
    return int(seconds * SAMPLE_RATE)


def silence(seconds: float) -> Signal:
    """A canvas of zeros, [T]."""
    return np.zeros(sample_count(seconds))


def times(seconds: float) -> Signal:
    """The time of each sample in seconds, [T]."""
    return np.arange(sample_count(seconds)) / SAMPLE_RATE


def progress(n: int) -> Signal:
    """How far through an event of `n` samples each sample lies, [n] in [0, 1)."""
    return np.arange(n) / n


def poisson_times(rng: Rng, seconds: float, rate: float) -> Signal:
    """Sorted onsets in seconds of independent events that come `rate` times a second."""
    count = rng.poisson(rate * seconds)
    return np.sort(rng.uniform(0, seconds, count))


def place(canvas: Signal, event: Signal, start: float, gain: float = 1.0) -> None:
    """Add `gain * event` into `canvas` from `start` seconds on; what hangs over the end is cut off."""
    first = int(start * SAMPLE_RATE)
    if first >= len(canvas):
        return
    event = event[: len(canvas) - first]
    canvas[first : first + len(event)] += gain * event


# ------------------------------------------------------------------------------------------------------ sound material


def white(rng: Rng, seconds: float) -> Signal:
    """White Gaussian noise of unit variance, [T]."""
    return rng.standard_normal(sample_count(seconds))


def pink(rng: Rng, seconds: float, exponent: float = 1.0) -> Signal:
    """Noise whose power falls as 1/f^exponent above 20 Hz, [T]: 0 is white, 1 pink, 2 brown."""
    n = sample_count(seconds)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency_hz = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20)
    return np.fft.irfft(spectrum / frequency_hz ** (exponent / 2), n) * 30


def sine(frequency_hz: float, n: int) -> Signal:
    """`n` samples of a sine that starts at phase zero, [n]."""
    return np.sin(TAU * frequency_hz * np.arange(n) / SAMPLE_RATE)


def sweep(frequency_hz: Signal) -> Signal:
    """A sine that follows a frequency contour given sample by sample, [T] -> [T]."""
    return np.sin(TAU * np.cumsum(frequency_hz) / SAMPLE_RATE)


def cycles(frequency_hz: Signal) -> Signal:
    """Phase in whole turns of an oscillator that follows a frequency contour, [T] -> [T]."""
    return np.cumsum(frequency_hz) / SAMPLE_RATE


def modal(rng: Rng, f0_hz: float, ratios: Sequence[float], taus: Sequence[float] | Signal, seconds: float) -> Signal:
    """A struck body (bar, bell, plate): decaying partials at `f0_hz * ratios`, each 1 % out of tune, [T].

    `taus` are the times in seconds in which each partial falls to 1/e; higher partials start weaker.
    """
    t = times(seconds)
    y = np.zeros_like(t)
    for k, (ratio, tau) in enumerate(zip(ratios, taus, strict=True)):
        amplitude = rng.uniform(0.4, 1) / (1 + 0.4 * k)
        detune = 1 + 0.01 * rng.standard_normal()
        y += amplitude * np.sin(TAU * f0_hz * ratio * detune * t + rng.uniform(0, 6.28)) * np.exp(-t / tau)
    return y


def bubble(rng: Rng, low_hz: float = 300, high_hz: float = 2500) -> Signal:
    """One air bubble in water: a short decaying sine that rises in pitch as the bubble shrinks."""
    f_hz = rng.uniform(low_hz, high_hz)
    t = np.arange(sample_count(rng.uniform(0.02, 0.09))) / SAMPLE_RATE
    return np.sin(TAU * (f_hz * t + f_hz * rng.uniform(0.5, 3) * t * t)) * np.exp(-t * f_hz / 25)


def voice(rng: Rng, f0_hz: Signal, formants: Sequence[tuple[float, float, float]], breath: float = 0.05) -> Signal:
    """A throat: glottal pulses at the contour `f0_hz` plus breath noise, through parallel band-pass formants, [T].

    Each formant is (centre in Hz, half width in Hz, gain); `breath` is the standard deviation of the source's noise.
    """
    n = len(f0_hz)
    sawtooth = 2 * (cycles(f0_hz) % 1) - 1
    source = np.diff(np.r_[0, sawtooth]) + breath * rng.standard_normal(n)
    y = np.zeros(n)
    for centre_hz, half_width_hz, gain in formants:
        y += gain * band_pass(source, centre_hz - half_width_hz, centre_hz + half_width_hz)
    return y


# ------------------------------------------------------------------------------------------------------------- shaping


def band_pass(x: Signal, low_hz: float, high_hz: float) -> Signal:
    """Second-order Butterworth band-pass, corners kept inside [15, 7900] Hz."""
    corners = [max(low_hz, 15) / NYQUIST, min(high_hz, TOP_CUTOFF) / NYQUIST]
    return sosfilt(butter(2, corners, "band", output="sos"), x)


def low_pass(x: Signal, cutoff_hz: float) -> Signal:
    """Second-order Butterworth low-pass, corner at most 7900 Hz."""
    return sosfilt(butter(2, min(cutoff_hz, TOP_CUTOFF) / NYQUIST, output="sos"), x)


def high_pass(x: Signal, cutoff_hz: float) -> Signal:
    """Second-order Butterworth high-pass."""
    return sosfilt(butter(2, cutoff_hz / NYQUIST, "high", output="sos"), x)


def decay(n: int, tau: float) -> Signal:
    """Exponential fall over `n` samples that reaches 1/e after `tau` seconds, [n]."""
    return np.exp(-np.arange(n) / (tau * SAMPLE_RATE))


def arch(n: int) -> Signal:
    """Half a sine over `n` samples: fades in from 0, reaches 1 in the middle and fades out, [n]."""
    return np.sin(np.pi * np.arange(n) / n)


def trapezoid(position: Signal, end: float, attack: float, release: float) -> Signal:
    """Linear fade-in over `attack`, then 1, linear fade-out over `release` to `end`; all in the unit of `position`."""
    return np.minimum(1, np.minimum(position / attack, (end - position) / release)).clip(0)


def wander(rng: Rng, seconds: float, rate: float, depth: float = 1.0) -> Signal:
    """A smooth random control in [1 - depth, 1] with about `rate` turning points a second, [T]."""
    knots = max(int(seconds * rate) + 4, 5)
    heights = rng.random(knots)
    walk = np.interp(np.linspace(0, knots - 1, sample_count(seconds)), np.arange(knots), heights)
    return 1 - depth * walk


def square(frequency_hz: float, t: Signal) -> Signal:
    """A square wave of -1 and 1 at the times `t` (seconds)."""
    return np.sign(np.sin(TAU * frequency_hz * t))


def reverb(rng: Rng, x: Signal, length: float = 0.6, wet: float = 0.2) -> Signal:
    """Add a room: `x` convolved with `length` seconds of decaying noise of unit energy, at gain `wet`."""
    n = sample_count(length)
    response = rng.standard_normal(n) * decay(n, length / 6)
    response /= np.sqrt((response**2).sum())
    return x + wet * fftconvolve(x, response)[: len(x)]


def with_peak(x: Signal, peak: float) -> Clip:
    """`x` without its mean, scaled so that its largest absolute sample is `peak`, as float32."""
    x = x - x.mean()
    largest = np.abs(x).max() + 1e-9
    return (x / largest * peak).astype(np.float32)


def finished(rng: Rng, x: Signal) -> Clip:
    """The last step of every class: mean removed, peak drawn from [0.5, 0.95], float32."""
    return with_peak(x, rng.uniform(0.5, 0.95))


# ---------------------------------------------------------------------------------------------- weather, water and fire


def rain(rng: Rng, seconds: float) -> Clip:
    """Slowly swelling hiss over a pink bed, with 40 to 400 drops a second: sine grains of 2 to 20 ms."""
    hiss = 0.25 * band_pass(white(rng, seconds), 800, 7500) * wander(rng, seconds, 1, 0.3) * rng.uniform(0.3, 1)
    y = hiss + 0.2 * pink(rng, seconds)
    for start in poisson_times(rng, seconds, rng.uniform(40, 400)):
        n = sample_count(rng.uniform(0.002, 0.02))
        drop = sine(rng.uniform(1500, 7000), n) * decay(n, 0.004)
        place(y, drop, start, rng.exponential(0.5))
    return finished(rng, y)


def wind(rng: Rng, seconds: float) -> Clip:
    """1/f^0.6 noise through three whistling bands that wander in level, under slow gusts."""
    air = pink(rng, seconds, 0.6)
    gusts = wander(rng, seconds, 0.7, 0.9) ** 1.5
    y = np.zeros_like(air)
    for centre_hz in rng.uniform(200, 900, 3):
        y += band_pass(air, centre_hz * 0.8, centre_hz * 1.25) * wander(rng, seconds, 1.5, 0.9)
    return finished(rng, (y + 0.3 * low_pass(air, 300)) * gusts)


def ocean_waves(rng: Rng, seconds: float) -> Clip:
    """Surf: noise that swells with a raised sinusoid of 4 to 9 s, low roar first and bright foam at the crest."""
    water = pink(rng, seconds, 0.8)
    t = times(seconds)
    period = rng.uniform(4, 9)  # seconds
    swell = np.clip(np.sin(TAU * (t / period + rng.random())), -0.4, 1) + 0.45
    swell = swell ** rng.uniform(1.5, 3)
    return finished(rng, low_pass(water, 900) * swell + 0.6 * high_pass(water, 1500) * swell**2)


def stream(rng: Rng, seconds: float) -> Clip:
    """A brook: rippling band noise and 60 to 250 bubbles a second."""
    y = 0.15 * band_pass(white(rng, seconds), 400, 5000) * wander(rng, seconds, 6, 0.5)
    for start in poisson_times(rng, seconds, rng.uniform(60, 250)):
        place(y, bubble(rng), start, rng.exponential(0.3))
    return finished(rng, y)


def bubbles(rng: Rng, seconds: float) -> Clip:
    """5 to 25 large bubbles a second, 150 to 1200 Hz, in otherwise still water."""
    y = silence(seconds)
    for start in poisson_times(rng, seconds, rng.uniform(5, 25)):
        place(y, bubble(rng, 150, 1200), start, rng.uniform(0.3, 1))
    return finished(rng, y)


def water_drip(rng: Rng, seconds: float) -> Clip:
    """Single drops every 0.4 to 1.2 s, give or take a fifth, in a resonant room."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    period = rng.uniform(0.4, 1.2)
    while start < seconds:
        place(y, bubble(rng, 700, 2200), start, rng.uniform(0.6, 1))
        start += period * rng.uniform(0.8, 1.2)
    return finished(rng, reverb(rng, y, 1.2, 0.5))


def thunder(rng: Rng, seconds: float) -> Clip:
    """1/f^1.6 rumble with summed decays (the far parts of the bolt arrive later) after a bright crack of 0.25 s."""
    strike = rng.uniform(0, seconds * 0.25)
    rumble = pink(rng, seconds, 1.6)
    envelope = np.zeros(sample_count(seconds))
    n = len(envelope) - sample_count(strike)
    envelope[sample_count(strike) :] = np.exp(-np.arange(n) / SAMPLE_RATE / rng.uniform(0.8, 2.5))
    for delay in poisson_times(rng, seconds - strike, 3):
        roll = decay(sample_count(1.0), rng.uniform(0.1, 0.4))
        place(envelope, roll, strike + delay, rng.uniform(0.2, 0.8) * np.exp(-delay / 2))
    y = low_pass(rumble, rng.uniform(200, 700)) * envelope
    crack = high_pass(white(rng, 0.25), 500) * decay(sample_count(0.25), 0.05)
    place(y, crack, strike, rng.uniform(0, 0.6) * np.abs(y).max())
    return finished(rng, y)


def fire(rng: Rng, seconds: float) -> Clip:
    """Flickering low rumble and 15 to 60 crackles a second whose loudness is Pareto-distributed, softly clipped."""
    y = 0.15 * low_pass(pink(rng, seconds, 1), 500) * wander(rng, seconds, 5, 0.6)
    for start in poisson_times(rng, seconds, rng.uniform(15, 60)):
        n = sample_count(rng.uniform(0.001, 0.012))
        snap = np.r_[rng.standard_normal(n) * decay(n, 0.002), np.zeros(60)]  # zeros: room for the filter to ring out
        place(y, band_pass(snap, 600, 7000), start, rng.pareto(2.5) * 0.4)
    return finished(rng, np.tanh(y * 2))


# ----------------------------------------------------------------------------------------------- vehicles and machines


def car_engine(rng: Rng, seconds: float) -> Clip:
    """23 overdriven harmonics of a wandering firing rate (22 to 60 Hz at idle), exhaust noise pulsing at twice it."""
    rate_hz = rng.uniform(22, 60) * (1 + rng.uniform(0, 1.6) * wander(rng, seconds, 0.6, 1))
    turns = cycles(rate_hz)
    y: Signal = sum(rng.uniform(0.2, 1) / k**0.7 * np.sin(TAU * k * turns + rng.uniform(0, 6)) for k in range(1, 24))
    exhaust = 0.4 * band_pass(white(rng, seconds), 100, 2500) * (0.5 + 0.5 * np.sin(TAU * 2 * turns))
    y = np.tanh(1.5 * y / 4) + exhaust
    return finished(rng, low_pass(y, rng.uniform(1200, 4000)))


def train(rng: Rng, seconds: float) -> Clip:
    """A steam train: 2 to 6 noise chuffs a second, each fourth one stronger, over rumble; six in ten whistle once."""
    chuffs_per_second = np.linspace(rng.uniform(2, 5), rng.uniform(2, 6), sample_count(seconds))
    turns = cycles(chuffs_per_second)
    chuff = np.maximum(0, np.sin(TAU * turns)) ** 3 * (1 + 0.5 * (np.floor(turns) % 4 == 0))
    y = band_pass(white(rng, seconds), 150, 3500) * chuff + 0.3 * low_pass(pink(rng, seconds, 1.2), 250)
    if rng.random() < 0.6:
        blast = train_whistle(rng, min(seconds * 0.4, 2))
        place(y, blast, rng.uniform(0, seconds * 0.5), 0.8 * np.abs(y).max())
    return finished(rng, y)


def train_whistle(rng: Rng, seconds: float) -> Clip:
    """One blast of a steam whistle: a five-note chord with 5 Hz vibrato and escaping steam; peak 0.9."""
    t = times(seconds)
    base_hz = rng.uniform(280, 500)
    vibrato = 0.3 * np.sin(TAU * 5 * t)
    chord: Signal = sum(np.sin(TAU * base_hz * ratio * t + vibrato) for ratio in (1, 1.26, 1.5, 2, 2.52))
    envelope = trapezoid(t, seconds, attack=0.1, release=0.15)
    steam = 0.5 * band_pass(white(rng, seconds), base_hz, 4 * base_hz)
    return with_peak((chord + steam) * envelope, 0.9)


def airplane(rng: Rng, seconds: float) -> Clip:
    """A fly-past: broadband roar that swells and fades, and a turbine tone that falls by Doppler from 1.15 to 0.85."""
    t = times(seconds)
    closeness = np.exp(-(((t - seconds * rng.uniform(0.3, 0.7)) / (seconds * 0.3)) ** 2))
    roar = band_pass(pink(rng, seconds, 0.7), 80, 5000)
    turbine_hz = rng.uniform(500, 1500) * (1.15 - 0.3 / (1 + np.exp(-(t - seconds / 2) * 2)))
    return finished(rng, (roar + 0.2 * sweep(turbine_hz) * np.abs(roar).mean() * 4) * (0.1 + closeness))


def helicopter(rng: Rng, seconds: float) -> Clip:
    """Rotor blades: noise chopped 9 to 16 times a second by a peaky cosine, with a quiet engine hum."""
    t = times(seconds)
    blades_hz = rng.uniform(9, 16)
    chop = np.maximum(0, np.cos(TAU * blades_hz * t)) ** rng.uniform(4, 10)
    wash = low_pass(pink(rng, seconds, 1), 900) * (chop + 0.12)
    hum = 0.2 * sweep(np.full(len(t), rng.uniform(90, 180))) * 0.2
    slap = 0.1 * band_pass(white(rng, seconds), 1000, 4000) * chop
    return finished(rng, wash + hum + slap)


def siren(rng: Rng, seconds: float) -> Clip:
    """An emergency siren between 450-700 Hz and 1000-1600 Hz: a slow wail, a fast yelp or a two-tone, overdriven.

    The two-tone changes between the low bound and 0.4 to 0.6 of the way up.
    """
    t = times(seconds)
    style = rng.integers(3)
    low_hz, high_hz = rng.uniform(450, 700), rng.uniform(1000, 1600)
    if style == 0:
        height = 0.5 - 0.5 * np.cos(TAU * t * rng.uniform(0.2, 0.4))
    elif style == 1:
        height = (t * rng.uniform(3, 5)) % 1
    else:
        height = ((t * rng.uniform(0.8, 1.5)) % 1 > 0.5) * rng.uniform(0.4, 0.6)
    f_hz = low_hz + (high_hz - low_hz) * height
    y = sweep(f_hz) + 0.4 * sweep(2 * f_hz) + 0.3 * sweep(3 * f_hz)
    return finished(rng, reverb(rng, np.tanh(2 * y), 0.5, 0.15))


def car_horn(rng: Rng, seconds: float) -> Clip:
    """Honks of 0.15 to 1.2 s: two overdriven tones a major third (1.25) apart, the lower at 320 to 480 Hz."""
    y = silence(seconds)
    f_hz = rng.uniform(320, 480)
    start = rng.uniform(0, 0.4)
    while start < seconds - 0.1:
        length = min(rng.uniform(0.15, 1.2), seconds - start)
        t = times(length)
        envelope = trapezoid(t, length, attack=0.01, release=0.02)
        two_tones = np.sin(TAU * f_hz * t) + np.sin(TAU * f_hz * 1.25 * t)
        place(y, np.tanh(3 * two_tones) * envelope, start)
        start += length + rng.uniform(0.1, 0.8)
    return finished(rng, band_pass(y, 250, 5000))


def tire_screech(rng: Rng, seconds: float) -> Clip:
    """One skid of at most 2.5 s: a rough square tone at 900 to 1500 Hz that sags by 15 %, with rubber noise."""
    y = silence(seconds)
    length = min(rng.uniform(0.8, 2.5), seconds)
    t = times(length)
    f_hz = rng.uniform(900, 1500) * (1 - 0.15 * t / length) * (1 + 0.02 * wander(rng, length, 30))
    envelope = trapezoid(t, length, attack=0.08, release=0.2)
    skid = (np.sign(sweep(f_hz)) * 0.5 + band_pass(white(rng, length), 800, 3500)) * envelope
    place(y, skid, rng.uniform(0, seconds - length))
    return finished(rng, band_pass(y, 600, 6000))


def machine(rng: Rng, seconds: float) -> Clip:
    """A factory machine: 14 harmonics of 45 to 120 Hz and noise switched between two levels 1.5 to 9 times a second."""
    t = times(seconds)
    f_hz = rng.uniform(45, 120)
    hum: Signal = sum(rng.random() / k * np.sin(TAU * f_hz * k * t + rng.uniform(0, 6)) for k in range(1, 15))
    hiss = 0.4 * band_pass(white(rng, seconds), 300, 3000) * (1 + 0.6 * square(rng.uniform(1.5, 9), t))
    return finished(rng, hum + hiss)


def vacuum_cleaner(rng: Rng, seconds: float) -> Clip:
    """Steady air noise and seven harmonics of the motor at 180 to 420 Hz."""
    t = times(seconds)
    f_hz = rng.uniform(180, 420)
    air = band_pass(white(rng, seconds), 300, 6500)
    motor: Signal = sum(np.sin(TAU * f_hz * k * t) / k for k in range(1, 8))
    return finished(rng, air + 0.8 * motor)


# ------------------------------------------------------------------------------------------------- signals and devices

BELL_RATIOS = (0.5, 1, 1.19, 1.5, 2, 2.51, 2.66, 3.01, 4.17)  # hum, prime, minor third, fifth, octave and above
BELL_TAUS = (4, 3, 2, 1.6, 1.2, 0.8, 0.7, 0.5, 0.3)  # seconds
DIAL_ROWS_HZ = (697, 770, 852, 941)
DIAL_COLUMNS_HZ = (1209, 1336, 1477)


def struck_bell(rng: Rng, seconds: float, f0_hz: float) -> Clip:
    """One stroke of a bell with a prime of `f0_hz`: nine partials from the hum note up, low ones ringing longest."""
    return finished(rng, modal(rng, f0_hz, BELL_RATIOS, np.array(BELL_TAUS) * rng.uniform(0.5, 1.4), seconds))


def bell(rng: Rng, seconds: float) -> Clip:
    """One stroke of a bell of 180 to 700 Hz that rings to the end of the clip."""
    return struck_bell(rng, seconds, rng.uniform(180, 700))


def church_bell(rng: Rng, seconds: float) -> Clip:
    """A bell of 180 to 420 Hz struck again every 1.1 to 1.9 s, each stroke ringing for 4 s."""
    y = silence(seconds)
    f0_hz = rng.uniform(180, 420)
    start = rng.uniform(0, 0.4)
    while start < seconds:
        place(y, struck_bell(rng, 4, f0_hz), start, rng.uniform(0.7, 1))
        start += rng.uniform(1.1, 1.9)
    return finished(rng, y)


def bicycle_bell(rng: Rng, seconds: float) -> Clip:
    """Bursts of 2 to 4 strokes, 90 ms apart, on a small bell of 1.8 to 3.2 kHz."""
    y = silence(seconds)
    f0_hz = rng.uniform(1800, 3200)
    start = rng.uniform(0, 0.5)
    while start < seconds:
        for k in range(rng.integers(2, 5)):
            place(y, modal(rng, f0_hz, (1, 1.98, 2.9), (0.35, 0.2, 0.1), 0.8), start + 0.09 * k)
        start += rng.uniform(0.8, 2)
    return finished(rng, y)


def telephone(rng: Rng, seconds: float) -> Clip:
    """Ringing with pauses: the 440 + 480 Hz ringback tone, or two higher tones chopped by an 18 to 25 Hz warble."""
    t = times(seconds)
    warbles = rng.integers(2)
    low_hz, high_hz = (rng.uniform(900, 1300), rng.uniform(1300, 1700)) if warbles else (440, 480)
    ringing = (t % rng.uniform(2, 4)) < rng.uniform(0.8, 2)
    y = np.sin(TAU * low_hz * t) + np.sin(TAU * high_hz * t)
    if warbles:
        y = y * (0.5 + 0.5 * square(rng.uniform(18, 25), t))
    return finished(rng, y * ringing)


def alarm_clock(rng: Rng, seconds: float) -> Clip:
    """A digital alarm: groups of 2 to 4 square beeps of 60 ms, 110 ms apart, at 1.8 to 3.2 kHz."""
    t = times(seconds)
    f_hz = rng.uniform(1800, 3200)
    beeps_per_group = rng.integers(2, 5)
    phase = t % rng.uniform(0.7, 1.1)  # seconds into the group
    sounding = (phase < 0.11 * beeps_per_group) & (phase % 0.11 < 0.06)
    return finished(rng, square(f_hz, t) * sounding)


def beeps(rng: Rng, seconds: float) -> Clip:
    """A regular sine beep of 500 to 2500 Hz, every 0.3 to 1 s, on for 20 to 60 % of the time."""
    t = times(seconds)
    period = rng.uniform(0.3, 1)
    tone = np.sin(TAU * rng.uniform(500, 2500) * t)
    return finished(rng, tone * ((t % period) < period * rng.uniform(0.2, 0.6)))


def dial_tones(rng: Rng, seconds: float) -> Clip:
    """Random telephone keys (DTMF): one row and one column frequency together for 120 ms each."""
    y = silence(seconds)
    start = 0.1
    while start < seconds - 0.2:
        t = times(0.12)
        key = np.sin(TAU * rng.choice(DIAL_ROWS_HZ) * t) + np.sin(TAU * rng.choice(DIAL_COLUMNS_HZ) * t)
        place(y, key, start)
        start += rng.uniform(0.18, 0.35)
    return finished(rng, y)


def laser(rng: Rng, seconds: float) -> Clip:
    """Zaps: an overdriven tone that falls exponentially from 2-6 kHz towards 120 Hz within 0.12 to 0.5 s."""
    y = silence(seconds)
    start = rng.uniform(0, 0.3)
    while start < seconds:
        length = rng.uniform(0.12, 0.5)
        n = sample_count(length)
        f_hz = rng.uniform(2000, 6000) * np.exp(-np.arange(n) / SAMPLE_RATE * rng.uniform(6, 20)) + 120
        place(y, np.tanh(2 * sweep(f_hz)) * decay(n, length / 2), start)
        start += length + rng.uniform(0.05, 0.8)
    return finished(rng, y)


def spaceship(rng: Rng, seconds: float) -> Clip:
    """A hovering drone: eight harmonics of 50 to 110 Hz with ever deeper phase wobble, slow throb, low air noise."""
    t = times(seconds)
    f_hz = rng.uniform(50, 110)
    drone: Signal = sum(np.sin(TAU * f_hz * k * (1 + 0.01 * np.sin(TAU * 0.5 * k * t)) * t) / k for k in range(1, 9))
    throb = 1 + 0.4 * np.sin(TAU * rng.uniform(0.3, 2) * t)
    return finished(rng, drone * throb + 0.3 * band_pass(white(rng, seconds), 200, 900))


def robot(rng: Rng, seconds: float) -> Clip:
    """Chatter of 50 to 200 ms square glides, each between two random pitches in 150 to 2500 Hz, with rare gaps."""
    y = silence(seconds)
    start = 0.0
    while start < seconds:
        length = rng.uniform(0.05, 0.2)
        glide_hz = np.linspace(rng.uniform(150, 2500), rng.uniform(150, 2500), sample_count(length))
        place(y, np.sign(sweep(glide_hz)) * 0.7, start)
        start += length + (rng.random() < 0.3) * 0.1
    return finished(rng, low_pass(y, 5000))


def sonar(rng: Rng, seconds: float) -> Clip:
    """A decaying ping of 800 to 1500 Hz every 1.5 to 3 s in a very long reverberation."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    f_hz = rng.uniform(800, 1500)
    t = times(1.5)
    ping = np.sin(TAU * f_hz * t) * np.exp(-t / 0.25)
    while start < seconds:
        place(y, ping, start)
        start += rng.uniform(1.5, 3)
    return finished(rng, reverb(rng, y, 2, 0.8))


def radio_static(rng: Rng, seconds: float) -> Clip:
    """Flickering band noise with a strong one-sample crackle in one of two thousand samples."""
    hiss = band_pass(white(rng, seconds), 300, 6000) * wander(rng, seconds, 20, 0.5)
    n = sample_count(seconds)
    crackle = 2 * (rng.random(n) < 0.0005) * rng.standard_normal(n)
    return finished(rng, hiss + crackle)


def geiger(rng: Rng, seconds: float) -> Clip:
    """A Geiger counter: equal bright clicks at Poisson times, 5 to 40 a second."""
    y = silence(seconds)
    for start in poisson_times(rng, seconds, rng.uniform(5, 40)):
        place(y, high_pass(np.r_[1, -1, 0.5, np.zeros(40)], 1000), start)
    return finished(rng, y)


# --------------------------------------------------------------------------------------------- people, tools and foley


def wooden_step(rng: Rng) -> Signal:
    """A heel on boards: a short low modal thud with a soft click."""
    thud = modal(rng, rng.uniform(90, 160), (1, 2.3, 3.9), (0.05, 0.03, 0.02), 0.2)
    click = low_pass(white(rng, 0.03), 2500) * decay(sample_count(0.03), 0.008)
    return thud + 0.3 * np.r_[click, np.zeros(len(thud) - len(click))]


def metal_step(rng: Rng) -> Signal:
    """A heel on a steel plate: four inharmonic partials that ring for about 0.1 s."""
    return modal(rng, rng.uniform(300, 700), (1, 2.7, 5.2, 7.9), (0.12, 0.1, 0.06, 0.04), 0.3)


def loose_step(rng: Rng, low_hz: float, high_hz: float, density: float) -> Signal:
    """A foot on loose grains: decaying band noise of which only the share `density` of the samples is kept."""
    n = sample_count(0.18)
    crunch = band_pass(rng.standard_normal(n), low_hz, high_hz) * decay(n, 0.05)
    return crunch * (rng.random(n) < density)


FOOTSTEP_SURFACES: dict[str, Callable[[Rng], Signal]] = {
    "wood": wooden_step,
    "gravel": lambda rng: loose_step(rng, 900, 6000, density=0.15),
    "snow": lambda rng: loose_step(rng, 1500, 7500, density=0.6),
    "metal": metal_step,
}


def footsteps(rng: Rng, seconds: float) -> Clip:
    """A walk on wood, gravel, snow or metal: a heel and, 60 to 100 ms later, a softer toe, every 0.35 to 0.7 s."""
    step = FOOTSTEP_SURFACES[str(rng.choice(list(FOOTSTEP_SURFACES)))]
    y = silence(seconds)
    period = rng.uniform(0.35, 0.7)
    start = rng.uniform(0, 0.3)
    while start < seconds:
        toe_delay = rng.uniform(0.06, 0.1)
        for delay, gain in ((0.0, 1), (toe_delay, 0.5)):
            place(y, step(rng), start + delay, gain * rng.uniform(0.7, 1))
        start += period * rng.uniform(0.93, 1.07)
    return finished(rng, y)


def heartbeat(rng: Rng, seconds: float) -> Clip:
    """Lub (55 Hz) and dub (70 Hz), 0.2 s bumps that sag in pitch, at a steady 55 to 100 beats a minute."""
    y = silence(seconds)
    period = rng.uniform(0.6, 1.1)
    start = 0.1
    n = sample_count(0.2)
    sag = 1 - 0.2 * np.arange(n) / n
    while start < seconds:
        for delay, gain, f_hz in ((0.0, 1, 55), (0.28 * period / 0.8, 0.7, 70)):
            bump = np.sin(TAU * f_hz * np.arange(n) / SAMPLE_RATE * sag) * arch(n) ** 2
            place(y, bump, start + delay, gain)
        start += period
    return finished(rng, y + 0.002 * low_pass(white(rng, seconds), 300))


def clock(rng: Rng, seconds: float) -> Clip:
    """Tick and a 15 % lower tock, exactly every 0.25, 0.5 or 1 s: very short inharmonic modes at 1.5 to 4 kHz."""
    y = silence(seconds)
    period = rng.choice([0.5, 1.0, 0.25])
    start = 0.05
    ticks = 0
    f0_hz = rng.uniform(1500, 4000)
    while start < seconds:
        pitch = (1, 0.85)[ticks % 2]
        place(y, modal(rng, f0_hz * pitch, (1, 1.7, 2.6), (0.012, 0.008, 0.005), 0.1), start)
        start += period
        ticks += 1
    return finished(rng, reverb(rng, y, 0.3, 0.1))


def applause(rng: Rng, seconds: float) -> Clip:
    """15 to 59 people, each with a clap of their own colour and a tempo of 2.5 to 5 claps a second, in a hall."""
    y = silence(seconds)
    people = rng.integers(15, 60)
    for _ in range(people):
        claps_per_second = rng.uniform(2.5, 5)
        centre_hz = rng.uniform(700, 2400)
        start = rng.uniform(0, 0.5)
        n = sample_count(0.04)
        clap = band_pass(rng.standard_normal(n) * decay(n, 0.008), centre_hz * 0.6, centre_hz * 1.8)
        while start < seconds:
            place(y, clap, start, rng.uniform(0.3, 1))
            start += 1 / claps_per_second * rng.uniform(0.8, 1.2)
    return finished(rng, reverb(rng, y, 0.6, 0.3))


def knock(rng: Rng, seconds: float) -> Clip:
    """Groups of 2 to 4 knocks, 180 ms apart, on a wooden door whose lowest mode is at 120 to 300 Hz."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    f0_hz = rng.uniform(120, 300)
    while start < seconds:
        for k in range(rng.integers(2, 5)):
            rap = modal(rng, f0_hz, (1, 1.6, 2.4, 3.7), (0.05, 0.04, 0.03, 0.02), 0.25)
            place(y, rap, start + k * 0.18, rng.uniform(0.7, 1))
        start += rng.uniform(1.2, 2.5)
    return finished(rng, reverb(rng, y, 0.3, 0.15))


def typing(rng: Rng, seconds: float) -> Clip:
    """Key clicks of bright noise, at least 50 ms and on average 150 ms apart, in a small room."""
    y = silence(seconds)
    start = 0.05
    n = sample_count(0.03)
    while start < seconds:
        click = band_pass(rng.standard_normal(n) * decay(n, 0.004), 1200, 7000)
        place(y, click, start, rng.uniform(0.4, 1))
        start += rng.exponential(0.1) + 0.05
    return finished(rng, reverb(rng, y, 0.2, 0.1))


def whistle(rng: Rng, seconds: float) -> Clip:
    """Someone whistling: notes of 0.2 to 1 s that glide from 1-2.5 kHz with 6 Hz vibrato and a little breath."""
    y = silence(seconds)
    start = rng.uniform(0, 0.3)
    while start < seconds:
        length = rng.uniform(0.2, 1.0)
        n = sample_count(length)
        t = np.arange(n) / SAMPLE_RATE
        f_hz = rng.uniform(1000, 2500) + rng.uniform(-600, 900) * t / length + 25 * np.sin(TAU * 6 * t)
        envelope = np.sin(np.pi * np.clip(t / length, 0, 1)) ** 0.5
        note = sweep(f_hz) * envelope
        breath = 0.05 * band_pass(rng.standard_normal(n), 1000, 4000) * envelope
        place(y, note + breath, start)
        start += length + rng.uniform(0.05, 0.6)
    return finished(rng, y)


def referee_whistle(rng: Rng, seconds: float) -> Clip:
    """A pea whistle: blasts of 2.4 to 3.4 kHz whose level the pea shakes 25 to 45 times a second, with air noise."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    f_hz = rng.uniform(2400, 3400)
    while start < seconds:
        length = rng.uniform(0.2, 1.2)
        t = times(length)
        envelope = trapezoid(t, length, attack=0.02, release=0.04)
        pea = 1 + 0.8 * np.sin(TAU * rng.uniform(25, 45) * t)
        blast = np.sin(TAU * f_hz * t) * pea * envelope + 0.2 * band_pass(white(rng, length), 2000, 6000) * envelope
        place(y, blast, start)
        start += length + rng.uniform(0.2, 1.5)
    return finished(rng, y)


def breaking_glass(rng: Rng, seconds: float) -> Clip:
    """One bright impact and then 25 to 69 tinkling shards of 2 to 6.5 kHz that thin out exponentially."""
    y = silence(seconds)
    impact = rng.uniform(0, seconds * 0.4)
    n = sample_count(0.1)
    place(y, high_pass(rng.standard_normal(n), 1500) * decay(n, 0.02), impact, 1.5)
    for start in impact + rng.exponential(0.25, rng.integers(25, 70)):
        place(y, modal(rng, rng.uniform(2000, 6500), (1, 1.3), (0.06, 0.04), 0.3), start, rng.exponential(0.25))
    return finished(rng, y)


def explosion(rng: Rng, seconds: float) -> Clip:
    """A bang of 80 ms and a clipped 1/f^1.3 boom that dies away over 0.4 to 1.2 s."""
    y = silence(seconds)
    start = rng.uniform(0, seconds * 0.3)
    length = seconds - start
    t = times(length)
    rumble = pink(rng, length, 1.3)
    boom = np.tanh(3 * low_pass(rumble, 1800) * np.exp(-t / rng.uniform(0.4, 1.2)))
    bang = 0.5 * low_pass(white(rng, length), 6000) * np.exp(-t / 0.08)
    place(y, boom + bang, start)
    return finished(rng, y)


def gunshot(rng: Rng, seconds: float) -> Clip:
    """Shots 0.12 to 1.8 s apart: a 15 ms crack and a 120 ms low body, clipped, in the open."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    length = 0.6
    t = times(length)
    while start < seconds:
        crack = white(rng, length) * np.exp(-t / 0.015)
        body = 0.5 * low_pass(white(rng, length), 700) * np.exp(-t / 0.12)
        place(y, np.tanh(4 * (crack + body)), start)
        start += rng.uniform(0.12, 1.8)
    return finished(rng, reverb(rng, y, 1.0, 0.15))


def fireworks(rng: Rng, seconds: float) -> Clip:
    """Rockets at 1.2 a second on average: an explosion and, from 0.2 s later, 40 tiny crackles."""
    y = silence(seconds)
    for start in poisson_times(rng, seconds, 1.2):
        place(y, explosion(rng, 1.2), start, rng.uniform(0.3, 1))
        for delay in rng.exponential(0.4, 40):
            place(y, high_pass(rng.standard_normal(40), 2000) * decay(40, 0.001), start + 0.2 + delay, 0.3)
    return finished(rng, y + 1e-3 * white(rng, seconds))


def saw(rng: Rng, seconds: float) -> Clip:
    """Hand saw strokes of 0.4 to 0.8 s, the pull softer than the push; teeth chop the noise at 60 to 140 Hz."""
    t = times(seconds)
    period = rng.uniform(0.4, 0.8)
    stroke = np.sin(np.pi * ((t / period) % 1)) ** 0.7 * np.where((t / period) % 2 < 1, 1, 0.7)
    rasp = band_pass(white(rng, seconds), 800, 5000) * (1 + 0.7 * square(rng.uniform(60, 140), t))
    return finished(rng, rasp * stroke)


def hammer(rng: Rng, seconds: float) -> Clip:
    """Steady blows on metal: four inharmonic bar modes from 0.7-2.5 kHz and a 5 ms impact noise."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    period = rng.uniform(0.35, 0.9)
    f0_hz = rng.uniform(700, 2500)
    while start < seconds:
        taus = np.array((0.3, 0.2, 0.1, 0.05)) * rng.uniform(0.3, 1)
        ring = modal(rng, f0_hz, (1, 2.32, 4.25, 6.6), taus, 0.8)
        impact = np.r_[rng.standard_normal(80), np.zeros(len(ring) - 80)]
        place(y, ring + impact * 0.5, start)
        start += period * rng.uniform(0.9, 1.1)
    return finished(rng, y)


def coins(rng: Rng, seconds: float) -> Clip:
    """3 to 12 coin clinks a second: three short modes from 2.5 to 5.5 kHz upwards."""
    y = silence(seconds)
    for start in poisson_times(rng, seconds, rng.uniform(3, 12)):
        clink = modal(rng, rng.uniform(2500, 5500), (1, 1.43, 1.9), (0.06, 0.05, 0.03), 0.3)
        place(y, clink, start, rng.uniform(0.3, 1))
    return finished(rng, y)


def zipper(rng: Rng, seconds: float) -> Clip:
    """Pulls of 0.3 to 0.7 s: bright noise gated by teeth that pass ever faster, from 60 to 150-260 a second."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    while start < seconds - 0.3:
        length = rng.uniform(0.3, 0.7)
        n = sample_count(length)
        teeth_hz = np.linspace(60, rng.uniform(150, 260), n)
        place(y, band_pass(rng.standard_normal(n), 1500, 7000) * (sweep(teeth_hz) > 0.3), start)
        start += length + rng.uniform(0.3, 1)
    return finished(rng, y)


# ------------------------------------------------------------------------------------------------------------- animals


def songbird(rng: Rng, seconds: float) -> Clip:
    """Phrases of 1 to 5 equal chirps of 40 to 150 ms around a base of 2 to 6.5 kHz that moves between phrases."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    base_hz = rng.uniform(2500, 5000)
    while start < seconds:
        chirps = rng.integers(1, 6)
        length = rng.uniform(0.04, 0.15)
        slope_hz_per_second = rng.uniform(-1, 1) * 12000
        n = sample_count(length)
        t = np.arange(n) / SAMPLE_RATE
        for _ in range(chirps):
            glide_hz = base_hz * rng.uniform(0.95, 1.05) + slope_hz_per_second * t
            trill_hz = 300 * np.sin(TAU * rng.uniform(20, 60) * t)
            place(y, sweep(glide_hz + trill_hz) * arch(n), start)
            start += length + rng.uniform(0.01, 0.05)
        start += rng.uniform(0.1, 0.9)
        base_hz = np.clip(base_hz * rng.uniform(0.85, 1.2), 2000, 6500)
    return finished(rng, y)


def cricket(rng: Rng, seconds: float) -> Clip:
    """A pure tone of 3.5 to 5.2 kHz in 25 to 45 pulses a second, grouped into chirps every 0.5 to 1.1 s."""
    t = times(seconds)
    f_hz = rng.uniform(3500, 5200)
    phase = (t / rng.uniform(0.5, 1.1)) % 1
    wing_strokes = (np.sin(TAU * rng.uniform(25, 45) * t).clip(0)) ** 2
    chirp = np.sin(TAU * f_hz * t) * wing_strokes * (phase < rng.uniform(0.3, 0.7))
    return finished(rng, chirp + 0.003 * white(rng, seconds))


def bee(rng: Rng, seconds: float) -> Clip:
    """Wing beat of 170 to 280 Hz that wavers by 7.5 %, with 19 strong harmonics, coming and going."""
    wing_hz = rng.uniform(170, 280) * (1 + 0.15 * (wander(rng, seconds, 3) - 0.5))
    turns = cycles(wing_hz)
    buzz: Signal = sum(np.sin(TAU * k * turns) / k**0.8 for k in range(1, 20))
    return finished(rng, buzz * wander(rng, seconds, 2, 0.7))


def mosquito(rng: Rng, seconds: float) -> Clip:
    """Wing beat of 450 to 700 Hz that wavers by 5 %, with eight harmonics, passing the ear."""
    wing_hz = rng.uniform(450, 700) * (1 + 0.1 * (wander(rng, seconds, 4) - 0.5))
    turns = cycles(wing_hz)
    whine: Signal = sum(np.sin(TAU * k * turns) / k for k in range(1, 9))
    return finished(rng, whine * wander(rng, seconds, 1, 0.9) ** 2)


def frog(rng: Rng, seconds: float) -> Clip:
    """Croaks of 0.15 to 0.4 s: an 80 to 160 Hz square wave and gated noise, through a 400 to 1600 Hz throat."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    f_hz = rng.uniform(80, 160)
    while start < seconds:
        length = rng.uniform(0.15, 0.4)
        n = sample_count(length)
        gate = (np.arange(n) / SAMPLE_RATE * rng.uniform(25, 60)) % 1 < 0.4
        source = gate * rng.standard_normal(n) * 0.3 + np.sign(sine(f_hz, n))
        place(y, band_pass(source, 400, 1600) * arch(n), start)
        start += length + rng.uniform(0.2, 1)
    return finished(rng, y)


def dog(rng: Rng, seconds: float) -> Clip:
    """Groups of 1 to 3 rough barks of 0.12 to 0.25 s whose pitch jumps from 250 to 600 Hz and back; size scales all."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    size = rng.uniform(0.7, 1.6)  # above 1: a smaller dog, everything higher
    while start < seconds:
        for _ in range(rng.integers(1, 4)):
            length = rng.uniform(0.12, 0.25)
            u = progress(sample_count(length))
            f0_hz = size * (250 + 350 * np.sin(np.pi * u) ** 0.7)
            envelope = np.minimum(1, u / 0.08) * np.exp(-3 * u)
            formants = ((650 * size, 250, 1), (1400 * size, 350, 0.7), (2600, 500, 0.3))
            place(y, voice(rng, f0_hz, formants, breath=0.25) * envelope, start)
            start += length + rng.uniform(0.05, 0.2)
        start += rng.uniform(0.3, 1.2)
    return finished(rng, np.tanh(3 * with_peak(y, 0.9)))


def cat(rng: Rng, seconds: float) -> Clip:
    """Meows of 0.5 to 1.1 s: pitch rises by a third from 450-750 Hz and falls back."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    while start < seconds:
        length = rng.uniform(0.5, 1.1)
        u = progress(sample_count(length))
        f0_hz = rng.uniform(450, 750) * (1 + 0.35 * np.sin(np.pi * u**0.7))
        formants = ((1000 + 400 * rng.random(), 300, 1), (2200, 400, 0.5), (3500, 600, 0.2))
        place(y, voice(rng, f0_hz, formants, breath=0.03) * np.sin(np.pi * u**0.6), start)
        start += length + rng.uniform(0.4, 1.5)
    return finished(rng, y)


def cow(rng: Rng, seconds: float) -> Clip:
    """Moos of 1 to 2 s: 95 to 150 Hz, rising by a third and dropping at the very end, dark formants."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    while start < seconds:
        length = rng.uniform(1, 2)
        u = progress(sample_count(length))
        f0_hz = rng.uniform(95, 150) * (1 + 0.35 * u - 0.4 * np.clip(u - 0.8, 0, 1))
        formants = ((350 + 300 * rng.random(), 180, 1), (900, 250, 0.5), (2200, 400, 0.15))
        envelope = trapezoid(u, 1, attack=0.1, release=0.15)
        place(y, voice(rng, f0_hz, formants, breath=0.04) * envelope, start)
        start += length + rng.uniform(0.5, 1.5)
    return finished(rng, y)


def sheep(rng: Rng, seconds: float) -> Clip:
    """Bleats of 0.5 to 1.1 s: 250 to 420 Hz, trembling 8 to 13 times a second in pitch and 10 times in level."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    formants = ((800, 250, 1), (1600, 300, 0.8), (2800, 400, 0.4))
    while start < seconds:
        length = rng.uniform(0.5, 1.1)
        n = sample_count(length)
        t = np.arange(n) / SAMPLE_RATE
        f0_hz = rng.uniform(250, 420) * (1 + 0.06 * np.sin(TAU * rng.uniform(8, 13) * t))
        tremolo = 1 + 0.5 * np.sin(TAU * 10 * t)
        envelope = trapezoid(progress(n), 1, attack=0.08, release=0.2)
        place(y, voice(rng, f0_hz, formants, breath=0.08) * tremolo * envelope, start)
        start += length + rng.uniform(0.4, 1.3)
    return finished(rng, y)


def owl(rng: Rng, seconds: float) -> Clip:
    """Calls of three pure hoots (0.15, 0.2 or 0.45 s) on one note of 300 to 480 Hz, in a wood."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    f_hz = rng.uniform(300, 480)
    while start < seconds:
        for length in rng.choice([0.15, 0.2, 0.45], 3):
            n = sample_count(length)
            place(y, sine(f_hz, n) * arch(n), start)
            start += length + 0.12
        start += rng.uniform(0.6, 1.5)
    return finished(rng, reverb(rng, y, 0.8, 0.3))


def cuckoo(rng: Rng, seconds: float) -> Clip:
    """Two pure notes of 0.22 s, the first 1.2 times (a minor third) above the second at 520 to 700 Hz."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    f_hz = rng.uniform(520, 700)
    n = sample_count(0.22)
    while start < seconds:
        for ratio in (1.2, 1):
            note = np.sin(TAU * f_hz * ratio * np.arange(n) / SAMPLE_RATE) * arch(n) ** 0.5
            place(y, note, start)
            start += 0.33
        start += rng.uniform(0.5, 1.0)
    return finished(rng, reverb(rng, y, 0.6, 0.2))


# Cock-a-doodle-doo: length in seconds, pitch ratio at its start and at its end.
ROOSTER_SYLLABLES = ((0.15, 1, 1.1), (0.12, 1.3, 1.3), (0.2, 1.2, 1.4), (0.8, 1.6, 0.9))


def rooster(rng: Rng, seconds: float) -> Clip:
    """Crows of four syllables on a base of 550 to 800 Hz, the last one long and falling."""
    y = silence(seconds)
    start = rng.uniform(0, 0.4)
    formants = ((1100, 350, 1), (2000, 400, 0.8), (3200, 500, 0.4))
    while start < seconds:
        base_hz = rng.uniform(550, 800)
        for length, first_ratio, last_ratio in ROOSTER_SYLLABLES:
            u = progress(sample_count(length))
            f0_hz = base_hz * (first_ratio + (last_ratio - first_ratio) * u)
            place(y, voice(rng, f0_hz, formants, breath=0.06) * np.sin(np.pi * u) ** 0.4, start)
            start += length + 0.05
        start += rng.uniform(0.8, 1.8)
    return finished(rng, y)


def wolf(rng: Rng, seconds: float) -> Clip:
    """Howls of 2 to 4 s: three harmonics that rise to 1.2 x (330 to 480 Hz), sink slowly and tremble, in a valley."""
    y = silence(seconds)
    start = rng.uniform(0, 0.5)
    while start < seconds:
        length = rng.uniform(2, 4)
        u = progress(sample_count(length))
        rise_and_sink = 0.7 + 0.5 * np.minimum(1, u / 0.2) - 0.25 * np.clip(u - 0.6, 0, 1)
        turns = cycles(rng.uniform(330, 480) * rise_and_sink * (1 + 0.01 * np.sin(TAU * 5 * u * length)))
        howl = np.sin(TAU * turns) + 0.3 * np.sin(4 * np.pi * turns) + 0.1 * np.sin(6 * np.pi * turns)
        place(y, howl * np.sin(np.pi * u) ** 0.5, start)
        start += length + rng.uniform(0.2, 1)
    return finished(rng, reverb(rng, y, 1.2, 0.4))


# The order is a contract: a set that goes through the classes by index must find the same class there.
CLASSES: dict[str, Callable[[Rng, float], npt.NDArray[np.float32]]] = {
    function.__name__: function
    for function in (
        rain,
        wind,
        ocean_waves,
        stream,
        bubbles,
        water_drip,
        thunder,
        fire,
        car_engine,
        train,
        airplane,
        helicopter,
        siren,
        car_horn,
        tire_screech,
        machine,
        vacuum_cleaner,
        bell,
        church_bell,
        bicycle_bell,
        telephone,
        alarm_clock,
        beeps,
        dial_tones,
        laser,
        spaceship,
        robot,
        sonar,
        radio_static,
        geiger,
        footsteps,
        heartbeat,
        clock,
        applause,
        knock,
        typing,
        whistle,
        referee_whistle,
        breaking_glass,
        explosion,
        gunshot,
        fireworks,
        saw,
        hammer,
        coins,
        zipper,
        songbird,
        cricket,
        bee,
        mosquito,
        frog,
        dog,
        cat,
        cow,
        sheep,
        owl,
        cuckoo,
        rooster,
        wolf,
    )
}
