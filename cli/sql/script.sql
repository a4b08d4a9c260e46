EOF
rm -f 'script.sql' ; ls; date
