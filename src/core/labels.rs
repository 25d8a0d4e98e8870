//! What is the word for each of a few cases? One definition makes the cases, their words and their places in a row, so
//! that none can be counted, read or told as another.

/// An enumeration whose every case has a word: `Case => "word"`. The word is what labels, headers, keys and JSON say.
macro_rules! labelled {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $case:ident => $word:literal,)+ }) => {
        $(#[$of_all])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $name {
            $($(#[$of_one])* #[serde(rename = $word)] $case,)+
        }

        impl $name {
            /// Each once, in the order of their places.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$case),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$case => $word,)+
                }
            }

            /// The place in [`Self::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }

            /// The case that this word stands for.
            pub fn named(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$case),)+
                    _ => None,
                }
            }
        }
    };
}
