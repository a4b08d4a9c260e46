import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import javax.sql.DataSource;

/** pgjdbc with HikariCP. */
public final class WithHikari implements Scenario.Use {
    private final DataSource pool;

    private WithHikari(DataSource pool) {
        this.pool = pool;
    }

    // [connect]
    /** PgBouncer 1.18 mixes up the named statements of its clients: with prepareThreshold=0 pgjdbc makes none. */
    static HikariDataSource connect() {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://%s:%s/%s?prepareThreshold=0".formatted(
                System.getenv("PGHOST"), System.getenv("PGPORT"), System.getenv("PGDATABASE")));
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setMaximumPoolSize(4);
        config.setAutoCommit(false); // so that everything runs in a transaction
        return new HikariDataSource(config);
    }

    interface Work<T> {
        T run(Connection db) throws Exception;
    }

    /** A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
    private <T> T tenant(String token, String isolation, Work<T> work) throws Exception {
        try (Connection db = pool.getConnection()) { // close() rolls back what was not committed
            if (isolation != null) // not setTransactionIsolation(): that is for the session, and refused
                try (Statement set = db.createStatement()) {
                    set.execute("SET TRANSACTION ISOLATION LEVEL " + isolation);
                }
            enter(db, token);
            T result = work.run(db);
            db.commit();
            return result;
        }
    }

    static void enter(Connection db, String token) throws SQLException {
        try (PreparedStatement enter = db.prepareStatement("SELECT bulkhead.enter(?)")) {
            enter.setString(1, token);
            enter.execute();
        }
    }
    // [end]

    // [retry]
    /** The tenant has moved; conflicts; the server process or the connection (class 08) went away. */
    private static final Set<String> RETRY = Set.of("TN004", "40001", "40P01", "57P01");

    static boolean tryAgain(String sqlState) {
        return sqlState != null && (RETRY.contains(sqlState) || sqlState.startsWith("08"));
    }

    private <T> T retry(String token, String isolation, Work<T> work) throws Exception {
        for (int left = 3; ; left--) {
            try {
                return tenant(token, isolation, work);
            } catch (SQLException error) {
                if (left == 1 || !tryAgain(error.getSQLState()))
                    throw error;
                Scenario.retrying(error.getSQLState());
            }
        }
    }
    // [end]

    @Override
    public <T> T inTenant(String token, String isolation, Scenario.Work<T> work) throws Exception {
        return retry(token, isolation, db -> work.run(new Db(db)));
    }

    private record Db(Connection db) implements Scenario.Db {
        private List<String> texts(String sql, Object... values) throws SQLException {
            List<String> texts = new ArrayList<>();
            try (PreparedStatement statement = db.prepareStatement(sql)) {
                for (int i = 0; i < values.length; i++)
                    statement.setObject(i + 1, values[i]);
                if (statement.execute())
                    for (ResultSet rows = statement.getResultSet(); rows.next();)
                        texts.add(rows.getString(1));
            }
            return texts;
        }

        @Override
        public List<String> names() throws SQLException {
            return texts("SELECT name FROM items ORDER BY id");
        }

        @Override
        public String nameOf(int id) throws SQLException {
            return texts("SELECT name FROM items WHERE id = ?", id).get(0);
        }

        @Override
        public void insert(String name) throws SQLException {
            texts("INSERT INTO items (name) VALUES (?)", name);
        }

        @Override
        public void add(String name) throws SQLException {
            texts("UPDATE items SET qty = qty + 1 WHERE name = ?", name);
        }

        @Override
        public int pid() throws SQLException {
            return Integer.parseInt(texts("SELECT pg_backend_pid()").get(0));
        }

        @Override
        public String state() throws SQLException {
            try (Statement statement = db.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT state FROM items WHERE id = 1")) {
                rows.next();
                return (String) rows.getObject(1); // the driver looks the type up
            }
        }
    }

    @Override
    public void unbound() throws SQLException {
        try (Connection db = pool.getConnection()) {
            new Db(db).names();
        }
    }

    @Override
    public void leaveDirty(String token) throws SQLException {
        try (Connection db = pool.getConnection()) {
            enter(db, token);
            new Db(db).names();
        }
    }

    @Override
    public void health() throws SQLException {
        try (Connection db = pool.getConnection()) {
            Scenario.check(db.isValid(5), "isValid()");
        }
    }

    public static void main(String[] args) throws SQLException {
        try (HikariDataSource pool = connect()) {
            Scenario.run(new WithHikari(pool), org.postgresql.util.DriverInfo.DRIVER_VERSION);
        }
    }
}
