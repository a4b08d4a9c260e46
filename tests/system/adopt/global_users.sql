-- People who are members of several teams: no column says whose they are.
CREATE TABLE teams (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE people (id int PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE memberships (team_id int NOT NULL REFERENCES teams, person_id int NOT NULL REFERENCES people, PRIMARY KEY (team_id, person_id));
CREATE TABLE notes (id int PRIMARY KEY, team_id int NOT NULL REFERENCES teams, body text);
INSERT INTO teams VALUES (1, 'Red'), (2, 'Blue');
INSERT INTO people VALUES (1, 'a@example.org'), (2, 'b@example.org'), (3, 'c@example.org');
INSERT INTO memberships VALUES (1, 1), (1, 2), (2, 2), (2, 3);
INSERT INTO notes VALUES (1, 1, 'red'), (2, 2, 'blue');
