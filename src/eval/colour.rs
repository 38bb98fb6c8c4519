//! Colours of plots, for readers with any colour vision.

use plotters::style::RGBColor;

/// Colours of lines (Okabe and Ito 2008, <https://jfly.uni-koeln.de/color/>, without yellow, which is faint on white).
const LINES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// Five points of viridis (<https://bids.github.io/colormap/>), dark to light.
const SCALE: [RGBColor; 5] = [
    RGBColor(68, 1, 84),
    RGBColor(59, 82, 139),
    RGBColor(33, 145, 140),
    RGBColor(94, 201, 98),
    RGBColor(253, 231, 37),
];

/// The colour of line number `at`; after the last colour they begin again, see [`is_dashed`].
pub fn line(at: usize) -> RGBColor {
    LINES[at % LINES.len()]
}

/// Whether line number `at` is told from an earlier one of its colour by its dashes.
pub fn is_dashed(at: usize) -> bool {
    at / LINES.len() % 2 == 1
}

/// The colour of a share of a scale, from dark (0) to light (1).
pub fn of_share(share: f64) -> RGBColor {
    let at = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let below = (at as usize).min(SCALE.len() - 2);
    let between = at - below as f64;
    let (dark, light) = (SCALE[below], SCALE[below + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * between).round() as u8;
    RGBColor(
        mix(dark.0, light.0),
        mix(dark.1, light.1),
        mix(dark.2, light.2),
    )
}

/// Black or white, whichever can be read on `ground`.
pub fn text_on(ground: RGBColor) -> RGBColor {
    let RGBColor(red, green, blue) = ground;
    let brightness = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if brightness > 140.0 {
        RGBColor(0, 0, 0)
    } else {
        RGBColor(255, 255, 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_runs_from_dark_to_light() {
        assert_eq!(of_share(0.0), SCALE[0]);
        assert_eq!(of_share(0.5), SCALE[2]);
        assert_eq!(of_share(1.0), SCALE[4]);
        assert_eq!(of_share(7.0), SCALE[4]);
        assert_eq!(of_share(0.125), RGBColor(64, 42, 112));
        assert_eq!(text_on(SCALE[0]), RGBColor(255, 255, 255));
        assert_eq!(text_on(SCALE[4]), RGBColor(0, 0, 0));
        assert_ne!(line(0), line(1));
        assert_eq!(line(0), line(7));
        assert_eq!([0, 6, 7, 13].map(is_dashed), [false, false, true, true]);
    }
}
