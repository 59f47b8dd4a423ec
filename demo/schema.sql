-- The application's tables. Nothing here knows about stream tables.
CREATE SCHEMA nyc;

CREATE TABLE nyc.airlines (
    carrier text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE nyc.airports (
    faa text PRIMARY KEY,
    name text NOT NULL,
    lat double precision,
    lon double precision,
    alt integer,
    tz integer,
    dst text,
    tzone text
);

CREATE TABLE nyc.planes (
    tailnum text PRIMARY KEY,
    year integer,
    type text,
    manufacturer text,
    model text,
    engines integer,
    seats integer,
    speed integer,
    engine text
);

-- No primary key, on purpose: measurements arrive as they come.
CREATE TABLE nyc.weather (
    origin text NOT NULL,
    time_hour timestamptz NOT NULL,
    temp numeric(7, 2),
    dewp numeric(7, 2),
    humid numeric(7, 2),
    wind_dir integer,
    wind_speed numeric(7, 2),
    wind_gust numeric(7, 2),
    precip numeric(7, 2),
    pressure numeric(7, 2),
    visib numeric(7, 2)
);

CREATE TABLE nyc.flights (
    flight_id integer PRIMARY KEY,
    flight_date date NOT NULL,
    carrier text NOT NULL,
    flight integer NOT NULL,
    tailnum text,
    origin text NOT NULL,
    dest text NOT NULL,
    sched_dep_time integer,
    sched_arr_time integer,
    distance integer NOT NULL,
    time_hour timestamptz NOT NULL,
    dep_time integer,
    dep_delay integer,
    arr_time integer,
    arr_delay integer,
    air_time integer
);
