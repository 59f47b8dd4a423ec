-- Made after the load. An index on a join column lets a change of the other side find its partners.
CREATE INDEX flights_tailnum ON nyc.flights (tailnum);
CREATE INDEX flights_dest ON nyc.flights (dest);
CREATE INDEX flights_origin_time ON nyc.flights (origin, time_hour);
CREATE INDEX weather_origin_time ON nyc.weather (origin, time_hour);
ALTER TABLE nyc.flights ADD FOREIGN KEY (carrier) REFERENCES nyc.airlines (carrier);
ANALYZE nyc.airlines, nyc.airports, nyc.planes, nyc.weather, nyc.flights;
