-- Second link of the chain flight_facts -> routes -> destinations.
select
    origin,
    dest,
    dest_name,
    distance,
    count(*) as flights,
    sum(seats) as seats,
    round(avg(arr_delay), 2) as avg_arr_delay
from {{ ref('flight_facts') }}
group by origin, dest, dest_name, distance
