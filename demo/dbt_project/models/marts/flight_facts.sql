-- One row per flight that took off. Two left joins: not every plane and not every airport is known.
select
    f.flight_id,
    f.flight_date,
    f.carrier,
    a.name as airline,
    f.origin,
    f.dest,
    d.name as dest_name,
    f.tailnum,
    p.manufacturer,
    p.model,
    p.seats,
    f.dep_delay,
    f.arr_delay,
    f.distance
from {{ source('nyc', 'flights') }} as f
inner join {{ source('nyc', 'airlines') }} as a on a.carrier = f.carrier
left join {{ source('nyc', 'airports') }} as d on d.faa = f.dest
left join {{ source('nyc', 'planes') }} as p on p.tailnum = f.tailnum
where f.dep_time is not null
