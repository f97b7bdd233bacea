//! What an operator should know of trunks whose media may go past us.

use sbc::dialog::session_timer::Mode;
use sbc::policy::{Image, MediaRelease};

/// Of a call whose media is elsewhere nobody here hears that its sides have vanished, but by session timers.
pub fn notes(image: &Image) -> impl Iterator<Item = String> {
    let released = image.trunks.iter().filter(|trunk| trunk.media_release != MediaRelease::Never);
    released.filter(|trunk| trunk.session.mode != Mode::Ask).map(|trunk| {
        let (name, longest) = (&trunk.name, trunk.max_duration.as_secs());
        format!(
            "a call of trunk `{name}` whose media went past us, and whose sides have vanished, may last until \
             max_duration_s = {longest}: session_timer = \"ask\" notices earlier"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn trunks_that_may_lose_their_sides_are_named() {
        let text = include_str!("../../../config/examples/loopback.toml");
        let noted = |keys: &str| {
            let text = text.replacen("[[trunk]]\n", &format!("[[trunk]]\n{keys}"), 1);
            let config = Config::parse("loopback.toml", &text).expect("it is right");
            notes(&config.image).collect::<Vec<_>>()
        };
        assert_eq!(noted(""), [""; 0]);
        let release = "media_release = \"always\"\nmax_duration_s = 600\n";
        let told = noted(release);
        assert!(told.len() == 1 && told[0].contains("max_duration_s = 600"), "{told:?}");
        assert_eq!(noted(&format!("{release}session_timer = \"ask\"\n")), [""; 0]);
    }
}
