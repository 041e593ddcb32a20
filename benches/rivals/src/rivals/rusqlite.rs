//! SQLite by rusqlite: a table of rows numbered by SQLite, in WAL mode.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use crate::log::{Contender, Durability, Log, RandomReads, Result, Visit};

pub(super) const CONTENDER: Contender = Contender {
    name: "rusqlite",
    open,
    written: "synchronous=NORMAL",
    synced: "synchronous=FULL",
    reads: "",
    random_reads: RandomReads::Possible(""),
};

const INSERT: &str = "INSERT INTO records (value) VALUES (?1)";

struct Sqlite(Mutex<Connection>);

fn open(directory: &Path, durability: Durability) -> Result<Box<dyn Log>> {
    let connection = Connection::open(directory.join("records.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Written => "NORMAL",
        Durability::Synced => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    )?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

impl Sqlite {
    fn connection(&mut self) -> &mut Connection {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Sqlite {
    fn append(&self, values: &[&[u8]]) -> Result<()> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let [value] = values {
            connection.prepare_cached(INSERT)?.execute([value])?;
            return Ok(());
        }
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for value in values {
                insert.execute([value])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_at(&mut self, offset: u64, visit: &mut Visit<'_>) -> Result<()> {
        let sql = "SELECT value FROM records WHERE number = ?1";
        let mut select = self.connection().prepare_cached(sql)?;
        // SQLite counts from 1.
        let mut rows = select.query([offset as i64 + 1])?;
        if let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?)?;
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        let mut select =
            self.connection().prepare_cached("SELECT value FROM records ORDER BY number")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let connection = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}
