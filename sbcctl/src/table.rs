//! Tables of plain output: no lines, columns two blanks apart, numbers to the right.

use crate::paint::Paint;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A column's title and whether it holds numbers.
pub(crate) type Column = (&'static str, bool);

/// Lays rows out under their titles.
pub(crate) fn table(paint: Paint, columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(title, _)| paint.dim(title)));
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, number)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_takes_no_room() {
        let rows =
            || vec![vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "9".to_owned()]];
        let columns = [("NAME", false), ("N", true)];
        let plain = table(Paint { on: false }, &columns, rows());
        assert_eq!(plain, "NAME   N\na     10\nbcd    9");
        let coloured = table(Paint { on: true }, &columns, rows());
        assert!(coloured.contains("a     10"), "{coloured}");
    }
}
