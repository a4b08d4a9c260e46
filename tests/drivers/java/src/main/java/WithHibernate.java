import com.zaxxer.hikari.HikariDataSource;
import jakarta.persistence.Entity;
import jakarta.persistence.GeneratedValue;
import jakarta.persistence.GenerationType;
import jakarta.persistence.Id;
import jakarta.persistence.Table;
import java.util.List;
import java.util.function.Function;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.annotations.DynamicInsert;
import org.hibernate.cfg.Configuration;

/** Hibernate on pgjdbc and HikariCP. */
public final class WithHibernate implements Scenario.Use {
    private final SessionFactory sessions;

    private WithHibernate(SessionFactory sessions) {
        this.sessions = sessions;
    }

    // [connect]
    /**
     * The pool is that of pgjdbc, with prepareThreshold=0 and without autocommit. Hibernate would look at the catalogue
     * (information_schema.sequences) at start, before a tenant is bound, which is refused: tell it the database instead.
     */
    static SessionFactory connect(HikariDataSource pool) {
        Configuration configuration = new Configuration().addAnnotatedClass(Item.class);
        configuration.getProperties().put("jakarta.persistence.nonJtaDataSource", pool);
        configuration.setProperty("hibernate.boot.allow_jdbc_metadata_access", "false");
        configuration.setProperty("jakarta.persistence.database-product-name", "PostgreSQL");
        configuration.setProperty("jakarta.persistence.database-major-version", "15");
        configuration.setProperty("hibernate.connection.provider_disables_autocommit", "true");
        return configuration.buildSessionFactory();
    }

    /** A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
    private <T> T tenant(String token, String isolation, Function<Session, T> work) {
        return sessions.fromTransaction(db -> {
            db.doWork(connection -> {
                if (isolation != null)
                    connection.createStatement().execute("SET TRANSACTION ISOLATION LEVEL " + isolation);
                WithHikari.enter(connection, token);
            });
            return work.apply(db);
        });
    }
    // [end]

    @Override
    public <T> T inTenant(String token, String isolation, Scenario.Work<T> work) throws Exception {
        for (int left = 3; ; left--) {
            try {
                return tenant(token, isolation, db -> {
                    try {
                        return work.run(new Db(db));
                    } catch (RuntimeException error) {
                        throw error;
                    } catch (Exception error) {
                        throw new IllegalStateException(error);
                    }
                });
            } catch (RuntimeException error) { // Hibernate wraps what pgjdbc throws
                if (left == 1 || !WithHikari.tryAgain(Scenario.sqlState(error)))
                    throw error;
                Scenario.retrying(Scenario.sqlState(error));
            }
        }
    }

    /** A row of the tenant's table. */
    @Entity(name = "Item")
    @Table(name = "items")
    @DynamicInsert
    public static class Item {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Integer id;
        String name;
        @jakarta.persistence.Column(insertable = false, updatable = false)
        String state;
        @jakarta.persistence.Column(insertable = false)
        Integer qty;
    }

    private record Db(Session db) implements Scenario.Db {
        @Override
        public List<String> names() {
            return db.createSelectionQuery("select name from Item order by id", String.class).getResultList();
        }

        @Override
        public String nameOf(int id) {
            return db.find(Item.class, id).name;
        }

        @Override
        public void insert(String name) {
            Item item = new Item();
            item.name = name;
            db.persist(item);
            db.flush();
        }

        @Override
        public void add(String name) {
            db.createMutationQuery("update Item set qty = qty + 1 where name = :name").setParameter("name", name).executeUpdate();
        }

        @Override
        public int pid() {
            return db.createNativeQuery("SELECT pg_backend_pid()", Integer.class).getSingleResult();
        }

        @Override
        public String state() {
            return db.find(Item.class, 1).state;
        }
    }

    @Override
    public void unbound() {
        try (Session db = sessions.openSession()) {
            new Db(db).names();
        }
    }

    @Override
    public void leaveDirty(String token) {
        try (Session db = sessions.openSession()) {
            db.beginTransaction();
            db.doWork(connection -> WithHikari.enter(connection, token));
            new Db(db).names();
        }
    }

    @Override
    public void health() {
        try (Session db = sessions.openSession()) {
            Scenario.check(db.createNativeQuery("SELECT 1 AS one", Integer.class).getSingleResult() == 1, "SELECT 1");
        }
    }

    public static void main(String[] args) {
        try (HikariDataSource pool = WithHikari.connect(); SessionFactory sessions = connect(pool)) {
            Scenario.run(new WithHibernate(sessions), org.hibernate.Version.getVersionString());
        }
    }
}
