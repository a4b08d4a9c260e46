import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

/** What each Java program does with its driver (../../../../README.md). */
final class Scenario {
    private static final List<String> TENANTS = List.of("acme", "globex", "initech");
    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    interface Work<T> {
        T run(Db db) throws Exception;
    }

    /** What runs statements in one transaction. */
    interface Db {
        List<String> names() throws Exception;

        String nameOf(int id) throws Exception;

        void insert(String name) throws Exception;

        void add(String name) throws Exception;

        int pid() throws Exception;

        String state() throws Exception;
    }

    /** What a driver gives. */
    interface Use {
        <T> T inTenant(String token, String isolation, Work<T> work) throws Exception;

        void unbound() throws Exception;

        void leaveDirty(String token) throws Exception;

        void health() throws Exception;
    }

    interface Step {
        void run() throws Exception;
    }

    private final Use use;

    private Scenario(Use use) {
        this.use = use;
    }

    private static String token(String tenant) {
        return System.getenv("TOKEN_" + tenant.toUpperCase());
    }

    /** The other end does it, then answers. */
    private static void ask(String verb, Object what) throws IOException {
        System.out.println("ask " + verb + " " + what);
        if (!"done".equals(ANSWERS.readLine()))
            throw new IOException("no answer to " + verb);
    }

    /** Where an application would log a retry; the tenant that has moved can be reached again. */
    static void retrying(String sqlState) throws IOException {
        if ("TN004".equals(sqlState))
            ask("back", "globex");
    }

    static void check(boolean condition, Object what) {
        if (!condition)
            throw new IllegalStateException(String.valueOf(what));
    }

    /** SQLSTATE of an error, or of the one that an ORM wraps; null where there is none. */
    static String sqlState(Throwable error) {
        for (Throwable it = error; it != null; it = it.getCause())
            if (it instanceof SQLException sql)
                return sql.getSQLState();
        return null;
    }

    private static void fails(Step step, String... states) {
        try {
            step.run();
        } catch (Exception error) {
            check(List.of(states).contains(sqlState(error)), error);
            return;
        }
        throw new IllegalStateException("no error, not " + List.of(states));
    }

    private static Void only(Db db, String tenant) throws Exception {
        List<String> names = db.names();
        check(names.stream().filter(n -> n.startsWith("first-")).toList().equals(List.of("first-" + tenant)),
                "as " + tenant + ": " + names);
        return null;
    }

    private <T> T as(String tenant, Work<T> work) throws Exception {
        return use.inTenant(token(tenant), null, work);
    }

    private void sees(String tenant) throws Exception {
        as(tenant, db -> only(db, tenant));
    }

    private void insert(String tenant, String name) throws Exception {
        as(tenant, db -> {
            db.insert(name);
            return null;
        });
    }

    /** Four at a time, the tenants in turn: each sees its own row. */
    private void turns() throws Exception {
        int last = Integer.parseInt(System.getenv("TURNS"));
        List<Future<Void>> done = new ArrayList<>();
        ExecutorService workers = Executors.newFixedThreadPool(4);
        for (int number = 0; number < last; number++) {
            String tenant = TENANTS.get(number % 3);
            done.add(workers.submit((Callable<Void>) () -> as(tenant, db -> {
                db.add("first-" + tenant);
                return only(db, tenant);
            })));
        }
        workers.shutdown();
        for (Future<Void> it : done)
            it.get();
    }

    /** Two transactions change one row: the second fails with 40001 and is tried again. */
    private void conflict() throws Exception {
        AtomicInteger attempts = new AtomicInteger();
        use.inTenant(token("acme"), "REPEATABLE READ", db -> {
            db.names();
            if (attempts.incrementAndGet() == 1)
                as("acme", other -> {
                    other.add("serial");
                    return null;
                });
            db.add("serial");
            return null;
        });
        check(attempts.get() == 2, "the conflict did not happen");
    }

    private void killed() throws Exception {
        AtomicInteger attempts = new AtomicInteger();
        as("acme", db -> {
            db.insert("killed");
            if (attempts.incrementAndGet() == 1)
                ask("kill", db.pid());
            return only(db, "acme");
        });
        check(attempts.get() == 2, "the server process was not killed");
    }

    private void prepared() throws Exception {
        for (int number = 0; number < 24; number++) {
            String tenant = TENANTS.get(number % 3);
            check(as(tenant, db -> db.nameOf(1)).equals("first-" + tenant), "another tenant's row, as " + tenant);
        }
    }

    private void error() throws Exception {
        fails(() -> insert("acme", "written"), "23505");
        sees("globex");
    }

    private void unbound() throws Exception {
        fails(use::unbound, "TN001", "42P01");
        use.health();
    }

    private void moved() throws Exception {
        ask("move", "globex");
        insert("globex", "moved");
    }

    private void reset() throws Exception {
        use.leaveDirty(token("acme"));
        for (String tenant : TENANTS)
            sees(tenant);
    }

    static void run(Use use, String version) {
        Scenario it = new Scenario(use);
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("connect", use::health);
        steps.put("read", () -> it.sees("acme"));
        steps.put("write", () -> it.insert("acme", "written"));
        steps.put("error", it::error);
        steps.put("unbound", it::unbound);
        steps.put("refused", () -> fails(() -> use.inTenant("nonsense", null, Db::names), "TN002"));
        steps.put("tenants", it::turns);
        steps.put("prepared", it::prepared);
        steps.put("types", () -> check(it.as("acme", Db::state).equals("new"), "the enum reads otherwise"));
        steps.put("moved", it::moved);
        steps.put("serial", it::conflict);
        steps.put("killed", it::killed);
        steps.put("reset", it::reset);
        steps.put("health", use::health);
        System.out.println("version " + version);
        steps.forEach((name, step) -> {
            try {
                step.run();
                System.out.println("ok " + name);
            } catch (Exception error) {
                System.out.println("fail " + name + " " + String.valueOf(error).replace('\n', ' '));
            }
        });
    }
}
