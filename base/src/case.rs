//! Named cases: an enum whose every case has a name for counters and a sentence for the docs.

/// Declares an enum with `ALL`, `name()`, `help()` and `index()`; the doc line of a case is its help.
#[macro_export]
macro_rules! cases {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $( #[doc = $help:literal] $case:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $( #[doc = $help] $case, )* }

        impl $name {
            /// Every case, in order of `index`.
            $vis const ALL: &'static [$name] = &[ $( $name::$case, )* ];

            /// The name used in metrics, CDRs and logs.
            $vis const fn name(self) -> &'static str {
                match self { $( $name::$case => $text, )* }
            }

            /// One sentence for the operator.
            $vis const fn help(self) -> &'static str {
                match self { $( $name::$case => $help, )* }
            }

            /// Position in `ALL`.
            $vis const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

#[cfg(test)]
mod tests {
    crate::cases! {
        /// Test.
        enum Fruit {
            /// Round.
            Apple = "apple",
            /// Bent.
            Banana = "banana",
        }
    }

    #[test]
    fn cases_know_their_names() {
        assert_eq!(Fruit::ALL.len(), 2);
        assert_eq!((Fruit::Banana.name(), Fruit::Banana.index()), ("banana", 1));
        assert_eq!(Fruit::Apple.help().trim(), "Round.");
    }
}
